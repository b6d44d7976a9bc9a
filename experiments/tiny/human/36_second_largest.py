def second_largest(nums):
    largest = second = None
    for n in nums:
        if largest is None or n > largest:
            second = largest
            largest = n
        elif second is None or n > second:
            second = n
    return second


def main():  # << START_OF_TRACE
    return second_largest([4, 9, 7, 2])
