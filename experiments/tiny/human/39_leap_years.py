def is_leap(year):
    return year % 4 == 0 and (year % 100 != 0 or year % 400 == 0)


def main():  # << START_OF_TRACE
    leaps = 0
    for year in [96, 100, 400, 401]:
        if is_leap(year):
            leaps += 1
    return leaps
