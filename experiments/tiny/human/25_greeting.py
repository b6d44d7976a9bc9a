def greet(name: str, hour: int = 20) -> str:
    if hour < 12:
        part = "morning"
    elif hour < 18:
        part = "afternoon"
    else:
        part = "evening"
    return f"Good {part}, {name}!"


def main():  # << START_OF_TRACE
    return greet("Sam", hour=9)
