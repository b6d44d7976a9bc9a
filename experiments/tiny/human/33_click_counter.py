class Counter:
    def __init__(self, start=0):
        self.value = start

    def click(self, step=1):
        self.value += step
        return self.value


def main():  # << START_OF_TRACE
    c = Counter(5)
    c.click()
    c.click(10)
    return c.value
