def running_max(nums):
    best = nums[0]
    maxima = []
    for x in nums:
        if x > best:
            best = x
        maxima.append(best)
    return maxima


def main():  # << START_OF_TRACE
    return running_max([3, 1, 4, 1, 5])
