def rotate(lst, k):
  k = k % len(lst)
  for _ in range(k):
    last = lst.pop()
    lst.insert(0, last)
  return lst


def main():  # << START_OF_TRACE
  return rotate([1, 2, 3, 4, 5], 8)
