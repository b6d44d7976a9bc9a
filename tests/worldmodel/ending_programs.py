"""Programs that end, or may, although a state that leaves something out comes back in them."""

ENDS = {
    "the place in a list": """
def f():
    for x in [1] * 9:
        y = 0
        while y < 2:
            y += 1
""",
    "the list of a module": """
log = []
def g():
    log.append(1)
    return len(log) > 50
def f():
    while not g():
        pass
""",
    "a default": """
def g(a=[]):
    a.append(1)
    return len(a) > 50
def f():
    while not g():
        pass
""",
    "a closure": """
def f():
    n = 0
    def g():
        nonlocal n
        n += 1
        return n > 50
    while not g():
        pass
""",
    "a generator": """
def f():
    g = (x for x in range(50))
    while next(g, None) is not None:
        pass
""",
    "an attribute": """
def f():
    f.n = 0
    while f.n < 50:
        f.n += 1
""",
    "an iterator of a module": """
import itertools
c = itertools.count()
def f():
    while next(c) < 50:
        pass
""",
    "chance": """
import random
def f():
    while random.random() < 0.9:
        pass
""",
    "the layout of a dict": """
def f():
    d = {1: 1}
    for k in d:
        d[k] = d.pop(k)
""",
    "the order of a set": """
def f():
    n, s = 0, {0, 8}
    while n < 30:
        for x in s:
            n += 1
""",
    "the identity of NaN": """
def f():
    x = float('nan')
    xs = [x]
    while x in xs:
        x = float('nan')
""",
    "the sign of zero": """
def f():
    x = 0.0
    while str(x) == '0.0':
        x = -x
""",
    "the type of a number": """
def f():
    x = 1
    while str(x) != 'True':
        x = x == 1
""",
    "sharing": """
def f():
    a = [[0], [0]]
    while a != [[1], [1]]:
        a[0][0] = 1
        if a[1][0] == 0:
            a[1] = a[0]
""",
    "the half-done sum of a caller": """
def g(n):
    i = 0
    while i < 2:
        i += 1
    return n
def f(n=20):
    return n + g(n) + (f(n - 1) if n else 0)
""",
    "an exception": """
def f():
    while True:
        try:
            1 / 0
        finally:
            break
""",
}
