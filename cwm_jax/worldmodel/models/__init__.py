"""Models that go on with prompts: a checkpoint of this machine, or a server that speaks OpenAI's protocol.

What predicts, debugs, fills and evaluates knows the protocol alone (`model.py`); users choose one (`choice.py`).
"""
