def average(grades):
    return sum(grades) / len(grades)


def passed(student, grades):
    avg = average(grades)
    status = "passed" if avg >= 5 else "failed"
    return f"{student} {status}: {avg:.1f}"


def main():  # << START_OF_TRACE
    return passed("Ines", [6, 4, 8])
