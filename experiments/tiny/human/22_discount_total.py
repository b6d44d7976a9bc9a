def total_price(prices, member):
    total = sum(prices)
    if total > 100:
        discount = 20
    elif member:
        discount = 10
    else:
        discount = 0
    return total - total * discount // 100


def main():  # << START_OF_TRACE
    return total_price([30, 25, 15], True)
