# "make" lists what there is. Everything installs what it needs by itself: tests/prepare.

SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
.PHONY: help deb deb-arm64 deb-noopt binaries commands launcher source release reproducible sbom demo image images test lint unit export-test alarm-test report-test pam-test asan-test build-test root-test package-test package-test-arm64 piuparts ansible-lint ansible-tools vm-test vm-trixie vm-bookworm vm-forky vm-arm64 emulator vm-cloud vm-ansible vm-upgrade repo bench-launch bench-login bench-status bench-drill clean

# Whatever the user's own settings say.
export CARGO_TARGET_DIR := $(CURDIR)/target
TOOLS := $(CURDIR)/target/tools/bin
export PATH := $(TOOLS):$(HOME)/.cargo/bin:$(PATH)
# Debian's own interpreter: it is the one that apt installs pytest for.
PYTHON := /usr/bin/python3
# Machine images are made as root; a build is not.
SUDO := $(shell [ "$$(id -u)" = 0 ] || echo sudo)
# What is compiled for: dpkg's own variable where a package is made, of another architecture too.
CPU = $(shell dpkg-architecture -qDEB_HOST_GNU_CPU)
TARGET = $(CPU)-unknown-linux-gnu
ARCHITECTURE = $(shell dpkg-architecture -qDEB_HOST_ARCH)
# What a package is made of: one for another architecture leaves this one's alone.
PACKAGED = target/package/$(ARCHITECTURE)
# Another architecture's libpam: "tests/prepare arm64" unpacks it, and dpkg does not know of it.
LIBRARIES = $(wildcard $(CURDIR)/target/tools/$(ARCHITECTURE)/lib)
# Flags that lintian looks for: immediate binding, and no path of this machine in a binary.
RELEASE_FLAGS := -C link-arg=-Wl,-z,now --remap-path-prefix=$(CURDIR)=. --remap-path-prefix=$(HOME)=~ \
    $(addprefix -L native=,$(LIBRARIES))
# Where it is another architecture. (Of this one, rustc then takes GNU ld for its own lld, and a login 15 % longer.)
CROSS = $(shell dpkg-architecture -qDEB_HOST_GNU_TYPE | grep -vx "$$(dpkg-architecture -qDEB_BUILD_GNU_TYPE)")
LINKER = $(if $(CROSS),--config "target.$(1).linker = '$(CROSS)-gcc'")
# The launcher is on the path of every service start: static and at fixed addresses it adds half of what
# it would add otherwise, and with musl half of that again, where Rust's part for musl is installed. (rustc
# would look for make's own job server.) What a static PIE costs: CONTRIBUTING.md, Rules.
LAUNCHER_FLAGS := -C target-feature=+crt-static -C relocation-model=static
MUSL = $(CPU)-unknown-linux-musl
LAUNCHER_TARGET = if [ -d "$$(MAKEFLAGS= rustc --print target-libdir --target $(MUSL))" ]; then echo $(MUSL); else echo $(TARGET); fi

# The time since "make" was called, also in the makes that it calls.
STARTED ?= $(shell date +%s)
export STARTED
say = @printf '\n== [%d s] %s\n' "$$(($$(date +%s) - STARTED))" "$(1)"

help: ## this list
	@awk -F ':.*## ' '/^[a-z0-9-]+:.*## / { printf "  make %-20s %s\n", $$1, $$2 }' Makefile

DEBIAN := target/debian
deb: PREPARED := build
deb: ## the Debian package, target/debian/fairslice_*.deb
deb-arm64: PREPARED := arm64
deb-arm64: DEBIAN := target/debian-arm64
deb-arm64: FOR := --host-arch arm64
deb-arm64: ## the same for arm64, compiled here: target/debian-arm64; no part of "make test"
deb-noopt: PREPARED := noopt
deb-noopt: DEBIAN := target/debian-noopt
deb-noopt: export DEB_BUILD_OPTIONS := noopt
deb-noopt: ## the same without optimization, for the demonstration: in a third of the time
deb deb-arm64 deb-noopt:
	$(call say,what a build needs)
	@tests/prepare $(PREPARED)
	$(call say,the package)
	@rm -rf $(DEBIAN) && mkdir -p $(DEBIAN) && dh_clean
	@MAKEFLAGS= PACKAGE_DIRECTORY=$(DEBIAN) dpkg-buildpackage $(FOR) --build=binary --no-sign --no-check-builddeps --no-pre-clean \
	    --buildinfo-file=$(DEBIAN)/fairslice.buildinfo --buildinfo-option=-u$(DEBIAN) \
	    --changes-file=$(DEBIAN)/fairslice.changes --changes-option=-u$(DEBIAN) > $(DEBIAN)/log 2>&1 || { cat $(DEBIAN)/log; exit 1; }
	@ls -l $(DEBIAN)/fairslice_*.deb

# What is shipped carries the list of its dependencies ("cargo auditable", in the section .dep-v0), for "cargo audit bin"
# and "trivy"; what is not optimized is not shipped. One call of cargo for all but the launcher: what they share is
# compiled once. The launcher shares little, and is done before the largest of them is linked.
IS_QUICK = $(filter noopt,$(DEB_BUILD_OPTIONS))
AUDITABLE = $(if $(IS_QUICK),,auditable)
PROFILE = $(if $(IS_QUICK),noopt,release)
PROFILE_OF_LAUNCHER = $(if $(IS_QUICK),noopt,launcher)
binaries: commands launcher

commands:
	RUSTFLAGS="$(RELEASE_FLAGS)" cargo $(AUDITABLE) build --profile $(PROFILE) --locked --target $(TARGET) $(call LINKER,$(TARGET)) \
	    -p fairslice -p pam_fairslice --bin fairslice --bin fairslice-generator --lib
	install -D -t $(PACKAGED) target/$(TARGET)/$(PROFILE)/fairslice target/$(TARGET)/$(PROFILE)/fairslice-generator
	install -m 644 target/$(TARGET)/$(PROFILE)/libpam_fairslice.so $(PACKAGED)/pam_fairslice.so

launcher:
	target=$$($(LAUNCHER_TARGET)) && \
	RUSTFLAGS="$(RELEASE_FLAGS) $(LAUNCHER_FLAGS)" cargo $(AUDITABLE) build --profile $(PROFILE_OF_LAUNCHER) --locked --target $$target $(call LINKER,$$target) \
	    -p fairslice --no-default-features --bin fairslice-launch && \
	install -D target/$$target/$(PROFILE_OF_LAUNCHER)/fairslice-launch $(PACKAGED)/fairslice-launch

source: ## the source package with its crates, target/source/fairslice_*.dsc
	@tests/prepare build
	@packaging/source-package

# VERSION is the new one.
VERSION :=
release: ## VERSION=…: everything of a release but the signatures
	@packaging/release "$(VERSION)"

reproducible: source ## the package twice from its source, in other surroundings: the same bit by bit
	@tests/reproducible target/source/fairslice_*.dsc

sbom: ## what is in the package, for each program: target/debian/*.cdx.json (CycloneDX)
	@tests/prepare sbom
	@for program in fairslice fairslice-launch fairslice-generator pam_fairslice.so; do \
	    auditable2cdx $(PACKAGED)/$$program > target/debian/$$program.cdx.json; \
	done
	@ls -l target/debian/*.cdx.json

# KEY is a key of gpg's, with its secret part; URL is where the directory will be served.
KEY :=
URL := https://packages.example.org/fairslice
repo: ## a signed apt repository of the packages of "make deb" and "make deb-arm64", in target/repo: KEY=… URL=…; without KEY, a key for tests
	@tests/prepare repo
	@packaging/repository target/repo "$(URL)" "$(KEY)" target/debian/fairslice_*.deb $(wildcard target/debian-arm64/fairslice_*.deb)
	@find target/repo -type f | sort

# Whether there is no package of what there is now; what is built last is the list of it.
CHANGED = $(shell find Cargo.toml Cargo.lock Makefile $$(ls -d src pam debian packaging man docs) -newer target/debian-noopt/fairslice.changes 2>&1 | head -n 1)
demo: ## all of it, measured on a real machine that is booted for it
	@tests/prepare vm
	@$(MAKE) --no-print-directory --jobs=2 $(if $(CHANGED),deb-noopt) image
	$(call say,the demonstration)
	@$(SUDO) $(PYTHON) tests/vm/demo.py target/debian-noopt/fairslice_*.deb

image: ## the disk of the demonstration's machine, if there is none yet
	@$(SUDO) $(PYTHON) tests/vm/image.py trixie

images:
	@$(SUDO) $(PYTHON) tests/vm/image.py trixie bookworm

# Emulated machines take two hours for all that is tried on them. But for installing, logins, boots and removal, that is
# done a twelfth at a time: each commit's turn is another, and "make vm-test" is all of it.
PART = $(shell echo $$(($$(git rev-list --count HEAD 2> /dev/null || echo 0) % 12 + 1)))/12
# What takes minutes beside that has its turn as well: a browser, which has to be installed, in the first part; two users'
# builds in the odd ones; the module through libpam as it is, and in each fourth one under AddressSanitizer; in 1/1, all.
BROWSER = $(if $(filter 1/%,$(PART)),report-test)
BUILDS = $(if $(filter 1/% 3/% 5/% 7/% 9/% 11/%,$(PART)),build-test)
THROUGH_LIBPAM = $(if $(filter 1/1,$(PART)),pam-test asan-test,$(if $(filter 4/% 8/% 12/%,$(PART)),asan-test,pam-test))
test: ## everything that CI runs
	@tests/prepare test
	@$(MAKE) --no-print-directory lint unit export-test alarm-test $(BROWSER)
	@$(MAKE) --no-print-directory --jobs=2 deb images
	@$(MAKE) --no-print-directory $(THROUGH_LIBPAM) root-test $(BUILDS) package-test
	@$(MAKE) --no-print-directory vm-test FAIRSLICE_PART=$(PART)

lint: ## formatting, clippy, documentation, licences
	$(call say,formatting)
	@cargo fmt --all --check
	$(call say,clippy)
	@# Newer than rust-version is what clippy finds of std, but not of the language.
	@! grep -rnE --include=*.rs '&& let |\b(if|while) let [^|]* && ' src pam || { echo "a let chain: rust-version does not know it"; exit 1; }
	@cargo clippy --workspace --all-targets --locked --quiet -- -D warnings
	@cargo clippy -p pam_fairslice --locked --quiet -- -D warnings
	@cargo clippy -p fairslice --no-default-features --bin fairslice-launch --locked --quiet -- -D warnings
	$(call say,documentation)
	@RUSTDOCFLAGS="-D warnings" cargo doc --workspace --no-deps --locked --quiet
	@for page in man/*; do \
	    warnings=$$(man --warnings -E UTF-8 -l -Tutf8 -Z "$$page" 2>&1 >/dev/null); \
	    if [ -n "$$warnings" ]; then echo "$$page: $$warnings"; exit 1; fi; \
	done
	$(call say,licences and advisories of the dependencies)
	@cargo deny --log-level error check licenses bans sources
	@if timeout 60 cargo deny --log-level off fetch db >/dev/null 2>&1; then \
	    cargo deny --log-level error check --disable-fetch advisories; \
	else \
	    echo "advisories NOT checked: their database cannot be reached from here"; \
	fi

# Tests make many small files: in memory, where there is room for them, that takes a quarter of the time.
IN_MEMORY := $(shell [ "$$(df --output=avail -k /dev/shm 2> /dev/null | tail -n 1)" -gt 1000000 ] 2> /dev/null && echo TMPDIR=/dev/shm)

# All tests are those of the workspace: cargo compiles once more what has other features without one of its packages.
TESTS = cargo test --workspace --locked
# The path of one.
EXECUTABLE = $(TESTS) --no-run --message-format short $(1) 2>&1 | sed -n 's/.*Executable.*(\(.*\))/\1/p'

unit: ## unit and integration tests: no root, no machine
	$(call say,unit and integration tests)
	@$(IN_MEMORY) $(TESTS) --quiet --lib $(patsubst tests/%.rs,--test %,$(wildcard tests/*.rs))

export-test: ## what is exported for Kubernetes, by the schemas of all its versions
	$(call say,what is exported for Kubernetes)
	@$(PYTHON) tests/kubernetes/validate.py

alarm-test: ## the alarms and the dashboard for Prometheus, by promtool
	$(call say,alarms and dashboard)
	@$(TESTS) --quiet --test alarms -- --ignored

report-test: ## pages of "fairslice report" in a browser: layout, contrast, names, paper
	@tests/prepare report
	$(call say,pages in a browser)
	@$(TESTS) --quiet --test report -- --ignored --nocapture

pam-test: ## the module through libpam, as root
	$(call say,the module through libpam)
	@cargo build --locked --quiet -p pam_fairslice
	@$(SUDO) $$($(call EXECUTABLE,--test libpam)) --quiet

asan-test: ## the module through libpam, and the launcher, under AddressSanitizer, as root
	$(call say,module and launcher under AddressSanitizer)
	@tests/sanitized

root-test: ## private directories, the lock and policy files, as root
	$(call say,private directories, the lock and policy files, as root)
	@for test in $$($(call EXECUTABLE,--test private_dir --test lock --test policy_owners)); do \
	    $(SUDO) $$test --quiet; \
	done

build-test: ## two users who build one workspace, and what max_age removes of builds, as root
	$(call say,two users who build one workspace)
	@cargo build --locked --quiet -p pam_fairslice
	@$(SUDO) $$($(call EXECUTABLE,--test builds)) --ignored --nocapture --test-threads=1
	$(call say,months of builds under max_age)
	@$(SUDO) env PATH="$$PATH" RUSTUP_HOME="$${RUSTUP_HOME:-$$HOME/.rustup}" $$($(call EXECUTABLE,--test ageing)) --ignored --quiet

package-test: ## the package's launcher, its module with its generator, its binaries, and lintian
	$(call say,the launcher as it is packaged)
	@FAIRSLICE_LAUNCH=$(CURDIR)/$(PACKAGED)/fairslice-launch $(TESTS) --quiet --test launch --test transparency
	$(call say,the module and the generator as they are packaged)
	@$(SUDO) env FAIRSLICE_MODULE=$(CURDIR)/$(PACKAGED)/pam_fairslice.so FAIRSLICE_GENERATOR=$(CURDIR)/$(PACKAGED)/fairslice-generator \
	    $$($(call EXECUTABLE,--test libpam)) --quiet --ignored package::
	$(call say,the binaries)
	@$(PYTHON) tests/package.py target/debian/fairslice_*.deb
	$(call say,lintian)
	@lintian --allow-root --fail-on error,warning,info --tag-display-limit 0 target/debian/fairslice_*.deb

package-test-arm64: ## binaries of the package for arm64, and lintian; no part of "make test"
	$(call say,the binaries)
	@$(PYTHON) tests/package.py target/debian-arm64/fairslice_*.deb
	$(call say,lintian)
	@lintian --allow-root --fail-on error,warning,info --tag-display-limit 0 target/debian-arm64/fairslice_*.deb

piuparts: ## Debian's test of what the package leaves behind, in a bare Debian 13; no part of "make test"
	@tests/prepare piuparts
	$(call say,piuparts)
	@$(SUDO) tests/piuparts target/debian/fairslice_*.deb

ROLE_TOOLS := $(CURDIR)/target/tools/ansible
ansible-lint vm-ansible: ansible-tools
ansible-tools:
	@tests/prepare ansible

ansible-lint: ## the Ansible role, by ansible-lint's profile for production; no part of "make test"
	$(call say,the Ansible role)
	@cd packaging/ansible && PYTHONPATH=$(ROLE_TOOLS) PATH=$(ROLE_TOOLS)/bin:$$PATH LC_ALL=C.UTF-8 ANSIBLE_HOME=$(CURDIR)/target/ansible \
	    ansible-lint --offline --strict --profile production

vm-test: ## the package on Debian 13 and Debian 12, both at the same time
	$(call say,the package on real machines)
	@$(MAKE) --no-print-directory --jobs=2 vm-trixie vm-bookworm

vm-trixie: WHICH := not bookworm and not forky and not arm64 and not test_7
vm-bookworm: WHICH := bookworm and not test_7
vm-forky: WHICH := forky
vm-forky: ## what a newer systemd or kernel may change, on Debian testing; no part of "make test"
vm-arm64: WHICH := arm64
vm-arm64: DEBIAN := target/debian-arm64
vm-arm64: emulator
emulator:
	@tests/prepare vm-arm64
vm-arm64: ## the same tests on an emulated arm64 with Debian 13, with the package of "make deb-arm64"; no part of "make test"
vm-cloud: WHICH := test_7_repository
vm-cloud: ## a machine that cloud-init makes from the repository, and its upgrades; no part of "make test"
vm-ansible: WHICH := test_7_ansible
vm-ansible: ## the Ansible role on two Debian 13 with different memory, from the repository; no part of "make test"
# EARLIER is the package of an earlier release.
EARLIER :=
vm-upgrade: WHICH := test_7_upgrade and not forky
vm-upgrade: ## from an earlier release that is in use, on Debian 13 and 12: EARLIER=….deb; no part of "make test"
vm-trixie vm-bookworm vm-forky vm-arm64 vm-cloud vm-ansible vm-upgrade:
	@$(SUDO) env FAIRSLICE_EARLIER=$(EARLIER) FAIRSLICE_DEB=$$(echo $(DEBIAN)/fairslice_*.deb) FAIRSLICE_PART=$(or $(FAIRSLICE_PART),1/1) $(PYTHON) -m pytest -p no:cacheprovider -v --tb=short -rN \
	    --durations=20 tests/vm -k "$(WHICH)" 2>&1 | sed -u 's/^/$(@:vm-%=%): /'

# The programs that are measured are those of the package.
BENCHED := $(CURDIR)/target/bench-launch
bench-launch: ## what fairslice-launch adds to an exec, beside env, nice, choom, setpriv, systemd-run, ...
	@tests/prepare vm
	@$(MAKE) --no-print-directory deb image
	$(call say,the harness)
	@rm -rf $(BENCHED) && mkdir -p $(BENCHED)
	@dpkg-deb --extract target/debian/fairslice_*.deb $(BENCHED)
	@cp "$$(cargo bench --locked --no-run --message-format short --profile dev --bench launch 2>&1 | \
	    sed -n 's/.*Executable.*(\(.*\))/\1/p')" $(BENCHED)/harness
	$(call say,on this machine)
	@$(BENCHED)/harness --launcher $(BENCHED)/usr/bin/fairslice-launch \
	    --generator $(BENCHED)/usr/lib/systemd/system-generators/fairslice-generator
	$(call say,under systemd)
	@$(SUDO) $(PYTHON) tests/vm/bench.py launch $(BENCHED)/harness target/debian/fairslice_*.deb

BENCHED_LOGIN := $(CURDIR)/target/bench-login
bench-login: ## what pam_fairslice adds to a session, beside pam_limits, pam_unix, pam_systemd, ...; 200 logins
	@tests/prepare bench-login
	@$(MAKE) --no-print-directory deb image
	$(call say,the harness)
	@rm -rf $(BENCHED_LOGIN) && mkdir -p $(BENCHED_LOGIN)
	@dpkg-deb --extract target/debian/fairslice_*.deb $(BENCHED_LOGIN)
	@cp "$$(cargo bench --locked --no-run --message-format short --profile dev --bench login 2>&1 | \
	    sed -n 's/.*Executable.*(\(.*\))/\1/p')" $(BENCHED_LOGIN)/harness
	@gcc -std=gnu11 -O2 -Wall -Wextra -o $(BENCHED_LOGIN)/session benches/login/session.c -lpam
	@cp -r target/tools/libpam-tmpdir $(BENCHED_LOGIN)/peers
	$(call say,on this machine)
	@$(SUDO) $(BENCHED_LOGIN)/harness --module $(BENCHED_LOGIN)/usr/lib/*/security/pam_fairslice.so \
	    --generator $(BENCHED_LOGIN)/usr/lib/systemd/system-generators/fairslice-generator \
	    --session $(BENCHED_LOGIN)/session --peers $(BENCHED_LOGIN)/peers
	$(call say,in a machine with systemd)
	@$(SUDO) $(PYTHON) tests/vm/bench.py login $(BENCHED_LOGIN) target/debian/fairslice_*.deb
	$(call say,logins over ssh)
	@$(SUDO) $(PYTHON) tests/vm/bench.py ssh target/debian/fairslice_*.deb

BENCHED_STATUS := $(CURDIR)/target/bench-status
bench-status: ## fairslice status with 10,000 cgroups, beside find and grep
	@tests/prepare build
	@$(MAKE) --no-print-directory deb
	$(call say,the harness)
	@rm -rf $(BENCHED_STATUS) && mkdir -p $(BENCHED_STATUS)
	@dpkg-deb --extract target/debian/fairslice_*.deb $(BENCHED_STATUS)
	@cp "$$(cargo bench --locked --no-run --message-format short --profile dev --bench status 2>&1 | \
	    sed -n 's/.*Executable.*(\(.*\))/\1/p')" $(BENCHED_STATUS)/harness
	$(call say,on this machine)
	@$(BENCHED_STATUS)/harness --fairslice $(BENCHED_STATUS)/usr/bin/fairslice

bench-drill: ## what the requests of a service feel while fairslice drill runs, and while an ordinary process is busy
	@tests/prepare vm
	@$(MAKE) --no-print-directory deb image
	$(call say,beside drills)
	@$(SUDO) $(PYTHON) tests/vm/bench.py drill target/debian/fairslice_*.deb

clean: ## what was built; machine images stay in ~/.cache/fairslice
	@rm -rf "$(CARGO_TARGET_DIR)"
