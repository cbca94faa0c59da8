# The few commands a person types. What they do is in scripts/ and in the CMake presets.
JOBS ?= $(shell nproc)
PRESET ?= release
PREFIX ?= /usr/local
BUILD := build/$(PRESET)

.DEFAULT_GOAL := help
.PHONY: help demo test bench build unit install deb package-test format format-check tidy clean deps

help: ## Show this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-14s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

demo: ## Install what is missing, build, and show an overlay at work
	@scripts/install-deps.sh build
	@scripts/demo.sh

test: ## Install what is missing, build, and run every test
	@scripts/install-deps.sh all
	@scripts/test.sh

bench: ## Install what is missing, build, and measure us and our peers (BENCH="--quick" for a look)
	@scripts/install-deps.sh build
	@scripts/install-deps.sh bench
	@scripts/bench.sh $(BENCH)

deps: ## Install what building and testing need (Debian 12, root)
	@scripts/install-deps.sh all

build: ## Build the PRESET (release)
	@cmake --preset $(PRESET) > /dev/null
	@cmake --build --preset $(PRESET) -j $(JOBS)

unit: build ## Build and run the unit tests only
	@ctest --test-dir $(BUILD) -L unit --output-on-failure

install: build ## Install below PREFIX (/usr/local); DESTDIR works
	@cmake --install $(BUILD) --prefix $(PREFIX)

deb: ## Make the Debian package in build/deb
	@scripts/make-deb.sh

package-test: ## Install the package, try it, remove it (root)
	@scripts/test-package.sh

format: ## Bring all C++ files into shape
	@scripts/format.sh

format-check: ## Tell whether `make format` would change something
	@scripts/format.sh --check

tidy: ## Run clang-tidy over src/
	@scripts/tidy.sh

clean: ## Remove everything that was built
	@rm -rf build
