# Everything a fresh machine with Python and make needs: `make demo`, `make test`.
# What each target installs goes into .venv; nothing else is touched.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
INSTALLED := $(VENV)/installed

.PHONY: demo demo-kannel screenshots test test-long fuzz storms soak bench bench-pages bench-country lint types migrations docs linkcheck dist check clean

demo: $(INSTALLED)
	$(BIN)/python -m demo

# With a real Kannel, and phones that it simulates: needs Debian's kannel and kannel-extras.
demo-kannel: $(INSTALLED)
	$(BIN)/python -m demo kannel

# The pictures of the documentation: needs Debian's chromium, chromium-driver and pngquant.
screenshots: $(INSTALLED)
	$(BIN)/python -m demo.screenshots

# SQLite always; PostgreSQL, MariaDB, Redis and RabbitMQ where they answer, and always under CI.
test: $(INSTALLED)
	$(BIN)/python -m tests

# Workers that are stopped or in the background, brokers that fail over, a gateway that is out of
# order for a minute; the README's quickstart, the tutorial and the how-to of Kannel word for word,
# which install the package from nothing.
test-long: $(INSTALLED)
	$(BIN)/python -m pytest -n 4 --dist worksteal -m long tests/docs tests/acceptance \
	    tests/integration

# About an hour of made-up input for whatever takes input from outside. Each run is another one.
fuzz: $(INSTALLED)
	$(BIN)/python -m pytest tests/fuzz --hypothesis-profile=long

# Faults on servers of its own: PostgreSQL with Redis, MariaDB with RabbitMQ. About a quarter of
# an hour; DB_ROUTER_STORMS=full takes the sizes that the documentation names.
storms: storms-postgresql-redis storms-mariadb-rabbitmq

storms-%: $(INSTALLED)
	$(BIN)/python -m pytest tests/storms -k $*

# Half an hour of messages, broadcasts and faults, on servers that it starts itself.
soak: $(INSTALLED)
	$(BIN)/python -m tests.storms.soak --minutes 30

# Ours against rapidsms.router.db and the floor, on PostgreSQL and Redis; BENCH=--quick takes about
# a minute, and looks at queries and memory alone.
bench: $(INSTALLED)
	$(BIN)/python -m benchmarks $(BENCH)

# The pages of operators with ten million transmissions: some GB, and about half an hour.
bench-pages: $(INSTALLED)
	$(BIN)/python -m benchmarks.pages $(or $(DATABASE),postgres) $(or $(ROWS),10000000)

# A broadcast to a million while workers are killed: some GB, and about an hour.
bench-country: $(INSTALLED)
	$(BIN)/python -m benchmarks.country $(COUNTRY)

lint: $(INSTALLED)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: $(INSTALLED)
	$(BIN)/python -m mypy  # from here, for its Django plugin imports the settings of the tests

migrations: $(INSTALLED)
	DJANGO_SETTINGS_MODULE=tests.settings $(BIN)/python -m django makemigrations --check --dry-run

docs: $(INSTALLED)
	$(BIN)/sphinx-build -W --keep-going -n -b html docs docs/_build/html

# Links between the pages and to other sites; offline, `docs` and tests/docs look at those between pages.
linkcheck: $(INSTALLED)
	$(BIN)/sphinx-build -q -b linkcheck docs docs/_build/linkcheck

dist: $(INSTALLED)
	$(BIN)/python -m build --outdir dist .

check: lint types migrations docs test test-long

$(INSTALLED): pyproject.toml requirements-dev.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --upgrade pip
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[redis,postgres,results,beat]' -r requirements-dev.txt
	touch $@

clean:
	rm -rf $(VENV) .tox build dist docs/_build demo/run *.egg-info .mypy_cache .pytest_cache .ruff_cache
