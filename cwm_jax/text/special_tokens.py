"""The control tokens of CWM's text (names and ids of the released tokenizer).

Plain text never produces them: a vocabulary maps each to one control symbol
that only `Vocabulary.encode_segments` and the text form's own separators reach.
"""

import re

BEGIN_OF_TEXT = "<|begin_of_text|>"
END_OF_TEXT = "<|end_of_text|>"
PAD = "<|pad|>"
START_HEADER = "<|start_header_id|>"
END_HEADER = "<|end_header_id|>"
END_OF_MESSAGE = "<|eom_id|>"
END_OF_TURN = "<|eot_id|>"
FRAME_SEP = "<|frame_sep|>"
ACTION_SEP = "<|action_sep|>"
RETURN_SEP = "<|return_sep|>"
CALL_SEP = "<|call_sep|>"
LINE_SEP = "<|line_sep|>"
EXCEPTION_SEP = "<|exception_sep|>"
ARG_SEP = "<|arg_sep|>"
TRACE_CONTEXT_START = "<|trace_context_start|>"
TASK_SEP = "<|task_sep|>"
SPAWN_SEP = "<|spawn_sep|>"
SEND_SEP = "<|send_sep|>"
RECEIVE_SEP = "<|receive_sep|>"
JOIN_SEP = "<|join_sep|>"
THINKING_START = "<|reasoning_thinking_start|>"
THINKING_END = "<|reasoning_thinking_end|>"

# Ids in the released Llama-3 vocabulary; a vocabulary trained here numbers them anew.
CWM_IDS = {
    BEGIN_OF_TEXT: 128000,
    END_OF_TEXT: 128001,
    PAD: 128004,
    START_HEADER: 128006,
    END_HEADER: 128007,
    END_OF_MESSAGE: 128008,
    END_OF_TURN: 128009,
    FRAME_SEP: 128100,
    ACTION_SEP: 128101,
    RETURN_SEP: 128102,
    CALL_SEP: 128103,
    LINE_SEP: 128104,
    EXCEPTION_SEP: 128105,
    ARG_SEP: 128106,
    TRACE_CONTEXT_START: 128107,
    THINKING_START: 128120,
    THINKING_END: 128121,
}

# Of our extension for tasks that talk; reserved ids that the release leaves unnamed, far from those that it names.
TASK_IDS = {
    TASK_SEP: 128200,
    SPAWN_SEP: 128201,
    SEND_SEP: 128202,
    RECEIVE_SEP: 128203,
    JOIN_SEP: 128204,
}

# Each ends what the model says (facts of the release).
STOP_TOKENS = (END_OF_TEXT, END_OF_MESSAGE, END_OF_TURN)

# Given, never predicted: after SFT the model thinks only where somebody puts the start token (paper §5.1).
GIVEN_TOKENS = (THINKING_START,)

TRACE_TOKENS = (
    BEGIN_OF_TEXT,
    END_OF_TEXT,
    PAD,
    FRAME_SEP,
    ACTION_SEP,
    RETURN_SEP,
    CALL_SEP,
    LINE_SEP,
    EXCEPTION_SEP,
    ARG_SEP,
    TRACE_CONTEXT_START,
)
TRACE_TOKEN_PATTERN = re.compile("|".join(re.escape(token) for token in TRACE_TOKENS))
TASK_TOKEN_PATTERN = re.compile("|".join(re.escape(token) for token in (*TRACE_TOKENS, *TASK_IDS)))
