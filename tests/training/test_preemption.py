"""Stop signals: what waits, what does not, and that several processes stop at the same step."""

import gc
import os
import signal
import socket
import subprocess
import sys
import time

import pytest

from cwm_jax.training.preemption import Stopped, StopSignals


def test_signals_wait_only_where_they_are_held():
    with StopSignals() as stop:
        with stop.held():
            assert stop.requested(1) is None
            os.kill(os.getpid(), signal.SIGTERM)
            os.kill(os.getpid(), signal.SIGTERM)  # a scheduler may repeat itself
            assert stop.requested(2) is signal.SIGTERM
            with pytest.raises(Stopped, match="Ctrl-C twice"):  # a person who does means it
                os.kill(os.getpid(), signal.SIGINT)
        with pytest.raises(Stopped) as stopped:
            os.kill(os.getpid(), signal.SIGTERM)
        assert stopped.value.status == 0
    with pytest.raises(KeyboardInterrupt) as raised:
        os.kill(os.getpid(), signal.SIGINT)
    assert not isinstance(raised.value, Stopped)  # handlers are back as they were


PROCESS = """
import sys, time, jax
from cwm_jax.training.preemption import StopSignals
address, number = sys.argv[1], int(sys.argv[2])
jax.distributed.initialize(address, 2, number)
with StopSignals() as stop, stop.held():
    for step in range(1, 2000):
        if step == 1:
            print("running", flush=True)
        if stop.requested(step):
            break
        time.sleep(0.02 + 0.02 * number)
print(step, flush=True)
jax.distributed.shutdown()
"""


def test_processes_stop_at_the_same_step():
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{free.getsockname()[1]}"
    processes = [
        subprocess.Popen([sys.executable, "-c", PROCESS, address, str(number)], stdout=subprocess.PIPE, text=True)
        for number in range(2)
    ]
    for process in processes:
        assert process.stdout.readline() == "running\n"
    processes[1].send_signal(signal.SIGTERM)  # one machine of the two is taken away
    one, other = (int(process.communicate(timeout=120)[0]) for process in processes)
    assert one == other < 1999
    assert [process.returncode for process in processes] == [0, 0]


def test_a_signal_amid_garbage_collection_is_not_lost():
    sent = []

    def callback(phase, info):
        if not sent:
            sent.append(phase)
            signal.raise_signal(signal.SIGTERM)

    gc.callbacks.append(callback)
    try:
        with pytest.raises(Stopped, match="SIGTERM"), StopSignals():
            gc.collect()
            time.sleep(20)
    finally:
        gc.callbacks.remove(callback)
