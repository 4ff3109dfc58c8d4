# Everything a person or CI needs: `make demo` to see it work, `make test` to know it works.
PYTHON ?= python3
CLANG ?= clang
BIN := .venv/bin
PY := $(BIN)/python
# What was compiled is kept: tests start hundreds of Pythons, and each would compile all of MESS again.
export PYTHONDONTWRITEBYTECODE :=

.DEFAULT_GOAL := help

help:  ## say what can be made
	@grep -hE '^[a-z-]+:.*  ## ' $(MAKEFILE_LIST) | awk -F ':.*  ## ' '{printf "  make %-12s %s\n", $$1, $$2}'

# pip, not uv: a machine may keep its CPU build of torch where only pip is told to look.
.venv/installed: pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv
	$(PY) -m pip install --quiet --disable-pip-version-check -c constraints.txt setuptools
	$(PY) -m pip install --quiet --disable-pip-version-check -c constraints.txt --no-build-isolation -e '.[dev]'
	@touch $@

install: .venv/installed  ## create .venv and install MESS with all that the tests need

demo: .venv/installed  ## train, store, test from the file, retrain: the main job on the embedded dataset (about 3 minutes)
	$(BIN)/mess demo

test: .venv/installed  ## run the test suite (at most 8 minutes on 2 cores)
	$(PY) -m pytest -n 2 --dist worksteal

test-slow: .venv/installed  ## run the tests that take minutes
	$(PY) -m pytest -m slow

test-network: .venv/installed  ## ask the real servers of all downloads for their headers
	MESS_NETWORK_TESTS=1 $(PY) -m pytest -q tests/test_fetch.py -k real_addresses

dist: .venv/installed  ## build sdist and wheel in dist/, after trying both in clean environments (minutes)
	$(PY) -m pytest -m slow tests/test_packaging.py
	rm -rf dist
	$(PY) -c "from setuptools import build_meta; build_meta.build_sdist('dist')"
	$(PY) -m pip wheel --quiet --no-deps --no-build-isolation -w dist dist/*.tar.gz  # so nothing but the sdist is in it
	@ls -l dist

check: .venv/installed  ## formatting, lint, types, import rules
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(PY) -m pytest -q tests/test_house.py

.venv/docs: .venv/installed
	$(PY) -m pip install --quiet --disable-pip-version-check -c constraints.txt --no-build-isolation -e '.[docs]'
	@touch $@

WASM_FLAGS := --target=wasm32 -std=c99 -Os -nostdlib -ffreestanding -fno-builtin -Wl,--no-entry -Wl,--strip-all -Wl,-z,stack-size=65536
wasm:  ## compile the decoder to WebAssembly (needs clang and wasm-ld)
	$(CLANG) $(WASM_FLAGS) -Idecoder/js/include -Isrc/mess/decoder -o decoder/js/mess.wasm decoder/js/wasm.c

docs: .venv/docs  ## build the documentation into site/ (a broken link is an error; minutes the first time, mkdocs is installed)
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --quiet

fuzz: .venv/installed  ## feed 100,000 damaged files to the reader
	$(PY) benchmarks/fuzz.py format
	$(PY) benchmarks/results.py --pages >/dev/null

FUZZ_SECONDS ?= 600
fuzz-c: .venv/installed  ## let libFuzzer find files that the C decoder takes amiss (needs clang; ten minutes)
	mkdir -p build/fuzz-c
	PYTHONPATH=tests $(PY) -c "import c_decoder; c_decoder.write_examples('build/fuzz-c')"
	$(CLANG) -std=c99 -O1 -g -fsanitize=fuzzer,address,undefined -fno-sanitize-recover=all -DMESS_FUZZ -Isrc/mess/decoder \
		-o build/mess_fuzzer tests/c/dump.c
	$(PY) benchmarks/fuzz.py c --seconds $(FUZZ_SECONDS)
	$(PY) benchmarks/fuzz.py beside
	$(PY) benchmarks/results.py --pages >/dev/null

soak: .venv/installed  ## interrupt runs hundreds of times, in every way (about 10 minutes; goes on where it stopped)
	OMP_NUM_THREADS=1 $(PY) benchmarks/soak.py
	$(PY) benchmarks/results.py --pages >/dev/null

# An environment of their own: NNCodec needs NumPy below 2.
.venv-peers/installed: benchmarks/peers.txt
	$(PYTHON) -m venv .venv-peers
	.venv-peers/bin/python -m pip install --quiet --disable-pip-version-check -r benchmarks/peers.txt
	@touch $@

peers: .venv-peers/installed  ## install what we are compared with, NNCodec and ZipNN, apart in .venv-peers

# Where CIFAR-10, CIFAR-100 and ImageNet are.
DATAPATH ?= ../data
bench: .venv/installed  ## measure speed of training and storing, beside baselines: make bench DATAPATH=... (an hour)
	$(PY) benchmarks/training.py --datapath $(DATAPATH)
	$(PY) benchmarks/storing.py
	$(PY) benchmarks/whole.py --datapath $(DATAPATH)
	$(PY) benchmarks/results.py --pages >/dev/null

bench-check: .venv/installed  ## measure again, and fail where a ratio is 20 % worse than in docs/results (minutes)
	$(PY) benchmarks/check.py --datapath $(DATAPATH)

bench-results: .venv/installed .venv-peers/installed  ## measure accuracy and bytes beside NNCodec, write docs/results (hours; goes on where it stopped)
	OMP_NUM_THREADS=1 $(PY) benchmarks/results.py --datapath $(DATAPATH)

bench-ablation: .venv/installed  ## measure what each part of v4 is worth, one left out at a time (hours; goes on where it stopped)
	OMP_NUM_THREADS=1 $(PY) benchmarks/ablation.py --datapath $(DATAPATH)
	$(PY) benchmarks/results.py --pages >/dev/null

bench-pages: .venv/installed  ## write the pages of docs/results from their JSON
	$(PY) benchmarks/results.py --pages >/dev/null

bench-gpu: .venv/installed  ## check and time everything on a GPU, in at most 6 minutes
	$(PY) benchmarks/gpu.py --datapath $(DATAPATH)

clean:  ## remove what make and the demo made (not checkpoints, not datasets)
	rm -rf .venv site .venv-peers .venv-atheris build dist demo .pytest_cache .mypy_cache .ruff_cache .hypothesis src/*.egg-info
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

.PHONY: help install demo test test-slow test-network dist check docs wasm fuzz fuzz-c soak peers bench bench-check bench-results bench-ablation bench-pages bench-gpu clean
