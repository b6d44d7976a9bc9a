class Account:
    balance = 0

    def __init__(self, deposit):
        self.balance += deposit

    def __repr__(self):
        return f"Account({self.balance})"

    def withdraw(self, amount):
        if amount > self.balance:
            raise ValueError("not enough money")
        self.balance -= amount


def main():  # << START_OF_TRACE
    acc = Account(50)
    try:
        acc.withdraw(20)
        acc.withdraw(40)
    except ValueError as err:
        return str(err)
    return acc.balance
