def group_by_first_letter(names):
    groups = {}
    for name in names:
        letter = name[0]
        if letter not in groups:
            groups[letter] = []
        groups[letter].append(name)
    return groups


def main():  # << START_OF_TRACE
    return group_by_first_letter(["ann", "bob", "al", "bea"])
