# From nothing to a running demo or a test verdict: everything lives in .venv, nothing is installed elsewhere.
PYTHON ?= python3
comma := ,
BIN := .venv/bin
INSTALLED := .venv/.installed

# With ROS 2 sourced its rclpy, NumPy and messages are used as they are: the newest NumPy would break them.
# Without it ROS 2 comes from pip (Linux on x86_64), and every version is pinned.
ROS := $(if $(ROS_DISTRO),$(shell $(PYTHON) -c 'import rclpy' 2>/dev/null && echo $(ROS_DISTRO)))
# Python compiles what is imported; pip would compile all of it, for a minute and more. Where Python may not keep
# what it compiles, as in many containers, each process would compile PyTorch again, for 6 s.
unexport PYTHONDONTWRITEBYTECODE
PIP := python -m pip install --disable-pip-version-check --no-compile
EXTRAS := torch,openvino,onnxruntime,export,int8,bags,fleet,train,test$(if $(ROS),,$(comma)ros)
CONSTRAINTS := $(if $(ROS),.venv/constraints-$(ROS).txt,constraints.txt)

# ROS 2 Jazzy from pip, which most robots have: the nodes' tests pass with it too.
JAZZY := .venv-jazzy
JAZZY_EXTRAS := torch,openvino,onnxruntime,export,bags,ros

# The oldest Python and libraries, as ROS 2 Humble has them: a python3.10 of the system's, or one of pyenv's.
OLDEST := .venv-oldest
OLDEST_PYTHON ?= $(shell python3.10 -c '' 2>/dev/null && echo python3.10 || ls -d $(HOME)/.pyenv/versions/3.10.*/bin/python 2>/dev/null | tail -1)

# Tests run in so many processes, each with one thread; those of a file stay together, as they share nodes and
# models. Tests of nodes often wait: three processes keep two cores at work. Each may take 2 GB.
JOBS ?= 3
PYTEST := -m pytest $(if $(filter-out 1,$(JOBS)),-n $(JOBS) --dist loadfile --no-loadscope-reorder)

.PHONY: help demo test test-jazzy test-long lint clean
.DELETE_ON_ERROR:

help: ## these lines
	@echo "rt_segmentation: real-time semantic segmentation for ROS 2"
	@sed -nE 's/^([a-z-]+):[^#]*## /  make \1\t/p' $(firstword $(MAKEFILE_LIST)) | expand -t 20

demo: $(INSTALLED) ## segment a synthetic street; IMAGES=folder: your images, SECONDS=n: stop after n
	$(BIN)/rt_seg demo $(if $(IMAGES),--images "$(IMAGES)") $(if $(SECONDS),--seconds $(SECONDS))

# There with NVIDIA's driver, on computers and on Jetsons.
NVIDIA := $(wildcard /proc/driver/nvidia/version /dev/nvhost-gpu)
OUT ?= output/gpu

# With the first Python that has PyTorch for CUDA; a machine that has none gets one in .venv/gpu.
.PHONY: test-gpu
test-gpu: ## the tests that need a CUDA device; OUT=folder: of pictures and benchmarks, output/gpu
ifeq ($(NVIDIA),)
	@echo "no NVIDIA GPU here: the tests that need a CUDA device are skipped"
else
	@for python in .venv/gpu/bin/python $(BIN)/python $(PYTHON) none; do \
		$$python -c 'import cv2, pytest, safetensors, torch, yaml; exit(not torch.cuda.is_available())' \
			2>/dev/null && break; \
	done; \
	if [ $$python = none ]; then $(MAKE) .venv/gpu/.installed && python=.venv/gpu/bin/python; fi && \
	PYTHONPATH="$(CURDIR)$${PYTHONPATH:+:$$PYTHONPATH}" RT_SEG_GPU_OUT="$(OUT)" $$python -m pytest -m gpu -rs test/gpu
endif

.venv/gpu/.installed: setup.py constraints.txt
	$(PYTHON) -m venv .venv/gpu
	.venv/gpu/bin/$(PIP) -c constraints.txt -e '.[export,test,torch,train]' onnxruntime-gpu
	touch $@

test: lint ## checks of style and types, then all tests but the long ones; JOBS=n: in n processes, 3
	$(BIN)/python $(PYTEST)

# Apart from `test`: on Python 3.11 it takes a third more of the processor's time.
.PHONY: coverage
coverage: $(INSTALLED) ## which lines the tests run, in a table; the processes of nodes are not counted
	$(BIN)/python $(PYTEST) --cov=rt_segmentation --cov-report=term:skip-covered

test-long: $(INSTALLED) ## the tests that take minutes
	$(BIN)/python -m pytest -m long

.PHONY: test-oldest
test-oldest: $(OLDEST)/.installed ## the tests that need no PyTorch on Python 3.10 and the oldest NumPy; TESTS=paths: those alone
	@if [ -x $(OLDEST)/bin/python ]; then \
		env -u ROS_DISTRO -u AMENT_PREFIX_PATH -u PYTHONPATH $(OLDEST)/bin/python $(PYTEST) $(or $(TESTS),test/unit); \
	fi

test-jazzy: $(JAZZY)/.installed ## the nodes' tests on ROS 2 Jazzy, in .venv-jazzy; TESTS=paths: those alone
	env -u ROS_DISTRO -u AMENT_PREFIX_PATH -u PYTHONPATH $(JAZZY)/bin/python $(PYTEST) $(or $(TESTS),test/ros)

lint: $(INSTALLED) ## checks of style and types
	$(BIN)/python -m ruff check
	$(BIN)/python -m ruff format --check
	$(BIN)/python -m mypy

.PHONY: docs
docs: .venv/docs/.installed ## the documentation as a site in build/site; a dead link fails
	NO_MKDOCS_2_WARNING=1 PYTHONPATH="$(CURDIR)" .venv/docs/bin/python -m mkdocs build --strict

.venv/docs/.installed: setup.py
	$(PYTHON) -m venv .venv/docs
	.venv/docs/bin/$(PIP) -e '.[docs]'
	touch $@

clean: ## remove .venv, .venv-jazzy, .venv-oldest and all that is built; needed when ROS 2 is sourced for the first time
	rm -rf .venv $(JAZZY) $(OLDEST) build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache
	find rt_segmentation research test tools -name __pycache__ -prune -exec rm -rf {} +

coverage test test-jazzy test-long test-oldest: export ROS_AUTOMATIC_DISCOVERY_RANGE = LOCALHOST

$(INSTALLED): setup.py $(if $(ROS),,constraints.txt)
	$(PYTHON) -m venv $(if $(ROS),--system-site-packages) .venv
	$(if $(ROS),$(PYTHON) -c 'import numpy; print(f"numpy=={numpy.__version__}")' > $(CONSTRAINTS))
	$(BIN)/$(PIP) -c $(CONSTRAINTS) -e '.[$(EXTRAS)]'
	# Not with what it requires: among that is a backport of `typing`, which breaks pip's builds.
	$(BIN)/$(PIP) --no-deps cityscapesscripts==2.3.0 pyquaternion==0.9.9
	touch $@

$(JAZZY)/.installed: setup.py constraints.txt constraints-jazzy.txt
	$(PYTHON) -m venv $(JAZZY)
	grep -v '^ros-' constraints.txt | cat - constraints-jazzy.txt > $(JAZZY)/constraints.txt
	$(JAZZY)/bin/$(PIP) -c $(JAZZY)/constraints.txt -e '.[$(JAZZY_EXTRAS)]' pytest pytest-xdist mcap-ros2-support
	touch $@

$(OLDEST)/.installed: setup.py constraints.txt constraints-oldest.txt
ifeq ($(OLDEST_PYTHON),)
	@echo "no python3.10 here: the tests with the oldest Python and libraries are skipped"
else
	$(OLDEST_PYTHON) -m venv $(OLDEST)
	grep '^ros-' constraints.txt | cat - constraints-oldest.txt > $(OLDEST)/constraints.txt
	$(OLDEST)/bin/$(PIP) -c $(OLDEST)/constraints.txt -e '.[bags,ros]' pytest pytest-xdist
	touch $@
endif
