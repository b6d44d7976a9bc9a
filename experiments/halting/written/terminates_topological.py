def order(needs):
    done = []
    while len(done) < len(needs):
        for name, wanted in needs.items():
            if name not in done and all(one in done for one in wanted):
                done.append(name)
    return done


def main():  # << START_OF_TRACE
    return order({"a": ["b"], "b": [], "c": ["a"]})
