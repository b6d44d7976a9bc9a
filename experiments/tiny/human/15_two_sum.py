def two_sum(nums, target):
    seen = {}
    for i, num in enumerate(nums):
        complement = target - num
        if complement in seen:
            return [seen[complement], i]
        seen[num] = i
    return []


def main():  # << START_OF_TRACE
    return two_sum([2, 11, 7, 15], 9)
