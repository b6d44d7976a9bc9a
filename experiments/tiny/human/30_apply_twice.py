def apply_twice(func, x):
    return func(func(x))


def main():  # << START_OF_TRACE
    add_three = lambda n: n + 3
    result = apply_twice(add_three, 10)
    return result
