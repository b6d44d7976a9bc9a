def safe_divide(a, b):
    try:
        answer = a / b
    except ZeroDivisionError:
        answer = 0
    return answer


def main():  # << START_OF_TRACE
    return safe_divide(9, 2), safe_divide(5, 0)
