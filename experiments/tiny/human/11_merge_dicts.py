def merge_dicts(first, second):
    merged = dict(first)
    for key, value in second.items():
        if key in merged:
            merged[key] += value
        else:
            merged[key] = value
    return merged


def main():  # << START_OF_TRACE
    return merge_dicts({"a": 1, "b": 2}, {"b": 3, "c": 4})
