def is_balanced(expr):
    pairs = {")": "(", "]": "["}
    stack = []
    for ch in expr:
        if ch in "([":
            stack.append(ch)
        elif ch in pairs:
            if not stack or stack.pop() != pairs[ch]:
                return False
    return not stack


def main():  # << START_OF_TRACE
    return is_balanced("([x])")
