def transpose(matrix):
    rows = len(matrix)
    cols = len(matrix[0])
    result = []
    for c in range(cols):
        newRow = []
        for r in range(rows):
            newRow.append(matrix[r][c])
        result.append(newRow)
    return result


def main():  # << START_OF_TRACE
    return transpose([[1, 2, 3], [4, 5, 6]])
