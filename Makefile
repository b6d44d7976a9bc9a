# make run: the whole line on this machine.  make test: the test suite.  Both set everything up first.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
RUN := runs/tiny
CORPUS := runs/corpus
CHAIN := runs/chain
EXPERIMENT := experiments/tiny/strawberry.gin
SMALL := runs/small

.PHONY: run test small chain rl rl-kill rl-soak rl-matrix bootstrap corpus aot lint setup setup-dev benchmarks clean

run: setup
	$(BIN)/python -m cwm_jax train --gin_file=$(EXPERIMENT) --out $(RUN)
	$(BIN)/python -m cwm_jax evaluate --out $(RUN)

test: setup-dev
	$(BIN)/python -m pytest

# Makes the model that comes with the project anew: real code, lessons, the mixture, training, its weights alone; those go
# into experiments/small/small-cpu by hand.
small: setup
	$(BIN)/python -m cwm_jax prepare --gin_file=experiments/small/corpus.gin --out $(SMALL)/corpus
	$(BIN)/python -m cwm_jax prepare --gin_file=experiments/small/lessons.gin --out $(SMALL)/lessons
	$(BIN)/python -m cwm_jax prepare --gin_file=experiments/small/mixture.gin --out $(SMALL)/mixture
	$(BIN)/python -m cwm_jax train --gin_file=experiments/small/small-cpu.gin --out $(SMALL)/small-cpu
	$(BIN)/python -m cwm_jax evaluate --out $(SMALL)/small-cpu
	[ -d $(SMALL)/weights ] || $(BIN)/python -m cwm_jax export $(SMALL)/small-cpu $(SMALL)/weights --to orbax --dtype bfloat16

# The whole chain at the size of this machine: code, traces, thoughts, reinforcement, each stage from the last checkpoint
# of the one before, and what each changed.
chain: setup
	$(BIN)/python -m cwm_jax prepare --gin_file=experiments/data/lessons.gin --out $(CHAIN)/data
	$(BIN)/python -m cwm_jax train --gin_file=experiments/chain/pretrain.gin --out $(CHAIN)/pretrain
	$(BIN)/python -m cwm_jax train --gin_file=experiments/chain/midtrain.gin --out $(CHAIN)/midtrain
	$(BIN)/python -m cwm_jax train --gin_file=experiments/chain/sft.gin --out $(CHAIN)/sft
	$(BIN)/python -m cwm_jax rl --gin_file=experiments/chain/rl.gin --out $(CHAIN)/rl
	$(BIN)/python -m cwm_jax evaluate --suite chain --out $(CHAIN)

# Reinforces the model of make run, asynchronously, and the same synchronously.
rl: setup
	$(BIN)/python -m cwm_jax rl --gin_file=experiments/tiny/rl.gin --out runs/rl
	$(BIN)/python -m cwm_jax rl --gin_file=experiments/tiny/rl.gin --out runs/rl-sync --sync

# Kills the roles of a run at random, twenty times, and the command itself twice; writes experiments/rl/kills.json.
rl-kill: setup-dev
	$(BIN)/python -m pytest tests/rl/test_kills.py -m kills

# Half an hour of all roles, watched for memory and open files that pile up; writes experiments/rl/soak.json.
rl-soak: setup-dev
	$(BIN)/python -m pytest tests/rl/test_soak.py -m soak

# Staleness 0, 1, 4, 8, caches kept and read anew, three seeds; goes on where it was stopped; writes experiments/rl/matrix.json.
rl-matrix: setup
	$(BIN)/python experiments/rl/matrix.py

# RL, SFT on what passed there, RL again, on the toy.
bootstrap: setup
	$(BIN)/python -m cwm_jax bootstrap --gin_file=experiments/tiny/bootstrap.gin --out runs/bootstrap

# Records real code: functions of the standard library and of projects from the package index, and their tests.
corpus: setup
	$(BIN)/python -m cwm_jax prepare --gin_file=experiments/data/corpus.gin --out $(CORPUS)
	cp $(CORPUS)/datasheet.json experiments/data/datasheet.json

# Compiles the large experiments for TPUs that are not here, and compares with their reports in experiments/aot/.
aot: setup-dev
	$(BIN)/python -m pytest tests/aot -m aot

lint: setup-dev
	$(BIN)/ruff check .

benchmarks: setup-dev
	$(BIN)/python benchmarks/recorder.py --out benchmarks/results/recorder.json
	$(BIN)/python benchmarks/train_vs_transformers.py --out benchmarks/results/train_vs_transformers.json
	$(BIN)/python benchmarks/convert_memory.py --out benchmarks/results/convert_memory.json
	$(BIN)/python benchmarks/decode.py --out benchmarks/results/decode.json
	$(BIN)/python benchmarks/small.py --out benchmarks/results/small.json
	$(BIN)/python benchmarks/serving.py --out benchmarks/results/serving.json
	$(BIN)/python benchmarks/rl_async.py --out benchmarks/results/rl_async.json

setup: $(VENV)/.requirements $(VENV)/.bubblewrap $(VENV)/.native

setup-dev: setup $(VENV)/.requirements-dev $(VENV)/.chromium $(VENV)/.vscode-client

$(VENV)/bin/python:
	$(PYTHON) -m venv $(VENV)

$(VENV)/.requirements: requirements.txt | $(VENV)/bin/python
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -r requirements.txt
	touch $@

$(VENV)/.requirements-dev: requirements-dev.txt $(VENV)/.requirements
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -r requirements-dev.txt
	touch $@

# bubblewrap holds programs that nobody vouched for; without it they are refused, and the rest works.
$(VENV)/.bubblewrap: | $(VENV)/bin/python
	@command -v bwrap >/dev/null || $(call apt,bubblewrap) || echo "bubblewrap could not be installed: apt-get install bubblewrap"
	@touch $@

# The recorder's hot path in C; without a compiler it says so, and the same in Python runs.
$(VENV)/.native: $(wildcard cwm_jax/tracing/child/c/*) cwm_jax/tracing/native.py $(VENV)/.requirements
	$(BIN)/python -m cwm_jax.tracing.native
	touch $@

# A real browser looks at the report in the tests; without one that test says so and is skipped.
$(VENV)/.chromium: | $(VENV)/bin/python
	@command -v chromium >/dev/null || $(call apt,chromium chromium-driver) || echo "chromium could not be installed: apt-get install chromium chromium-driver"
	@touch $@

# The client that VS Code's own debug adapters are tested with drives ours in a test; without npm that one is skipped.
$(VENV)/.vscode-client: | $(VENV)/bin/python
	@{ command -v npm >/dev/null && npm install --silent --no-save --prefix $(VENV) @vscode/debugadapter-testsupport@1.68.0 >/dev/null; } || echo "VS Code's test client could not be installed: it needs npm"
	@touch $@

apt = { [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null && apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq $(1) >/dev/null; }

clean:
	rm -rf $(VENV) runs
