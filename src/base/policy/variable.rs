//! Names of variables that may point to a private directory.
#![forbid(unsafe_code)]

use std::fmt;

use serde::{Deserialize, Serialize};

/// What decides which code a program runs, where it finds its libraries and configuration, or who the
/// user is.
///
/// Sources: glibc's `sysdeps/generic/unsecvars.h` and `ld.so(8)`; sudo's `env_delete` and `env_check`
/// (`sudo -V` lists them); `bash(1)`, `zshparam(1)`, `environ(7)`; what login, sshd, `pam_systemd(8)` and
/// agents set themselves; and variables that name a program to run. `TMPDIR`, which glibc distrusts in
/// set-uid programs, is what private directories are for.
const TRUSTED: [&str; 87] = [
    "AR",
    "AS",
    "BROWSER",
    "CARGO",
    "CARGO_BUILD_RUSTC",
    "CARGO_BUILD_RUSTDOC",
    "CC",
    "CCACHE_COMPILER",
    "CCACHE_PREFIX",
    "CDPATH",
    "CLASSPATH",
    "COLORTERM",
    "COMPILER_PATH",
    "CPATH",
    "CPP",
    "CXX",
    "DISPLAY",
    "EDITOR",
    "ENV",
    "FCEDIT",
    "FPATH",
    "GCC_EXEC_PREFIX",
    "GETCONF_DIR",
    "GLOBIGNORE",
    "GOROOT",
    "GOTOOLCHAIN",
    "GOTOOLDIR",
    "GPG_AGENT_INFO",
    "HOME",
    "HOSTALIASES",
    "HOSTNAME",
    "IFS",
    "INPUTRC",
    "JAVA_HOME",
    "LANG",
    "LANGUAGE",
    "LD",
    "LESSCLOSE",
    "LESSOPEN",
    "LIBRARY_PATH",
    "LINGUAS",
    "LOCALDOMAIN",
    "LOCPATH",
    "LOGNAME",
    "MAIL",
    "MAKE",
    "MANPAGER",
    "MANPATH",
    "NIS_PATH",
    "NLSPATH",
    "NODE_PATH",
    "NOTIFY_SOCKET",
    "NULLCMD",
    "OLDPWD",
    "PAGER",
    "PATH",
    "PATH_LOCALE",
    "PHPRC",
    "PHP_INI_SCAN_DIR",
    "PKG_CONFIG",
    "PKG_CONFIG_PATH",
    "PROMPT_COMMAND",
    "PS1",
    "PS2",
    "PS3",
    "PS4",
    "PWD",
    "READNULLCMD",
    "RES_OPTIONS",
    "RUSTC",
    "RUSTDOC",
    "SHELL",
    "SHELLOPTS",
    "SHLIB_PATH",
    "TCLLIBPATH",
    "TERM",
    "TERMCAP",
    "TERMPATH",
    "TMPPREFIX",
    "TZ",
    "TZDIR",
    "USER",
    "USERNAME",
    "VISUAL",
    "WAYLAND_DISPLAY",
    "XAUTHORITY",
    "ZDOTDIR",
];
const TRUSTED_PREFIXES: [&str; 28] = [
    "BASH",
    "DBUS_",
    "DYLD_",
    "GCONV_",
    "GIT_",
    "GLIBC_",
    "GUILE_",
    "KRB5",
    "LC_",
    "LDR_",
    "LD_",
    "LISTEN_",
    "LUA_",
    "MALLOC_",
    "OPENSSL_",
    "PERL",
    "PYTHON",
    "RESOLV_",
    "RUBY",
    "SSH_",
    "SUDO_",
    "SYSTEMD_",
    "TERMINFO",
    "XDG_CONFIG",
    "XDG_DATA_DIRS",
    "XDG_RUNTIME",
    "XDG_SE",
    "_RLD",
];
/// Of any tool: `RUSTC_WRAPPER`, `CARGO_TARGET_X86_64_UNKNOWN_LINUX_GNU_RUNNER`, `GOFLAGS`, `https_proxy`.
const TRUSTED_SUFFIXES: [&str; 7] =
    ["FLAGS", "_LINKER", "_OPTIONS", "_OPTS", "_PROXY", "_RUNNER", "_WRAPPER"];

/// A variable of a login's environment that may point to a private directory.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct VariableName(String);

impl VariableName {
    /// # Errors
    /// Says what is wrong with `name`: its spelling, or that programs trust the variable of that name.
    pub fn new(name: &str) -> Result<Self, &'static str> {
        let spelled = !name.is_empty()
            && !name.starts_with(|c: char| c.is_ascii_digit())
            && name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_');
        if !spelled {
            return Err("a variable's name holds letters, digits and \"_\", and starts with no digit");
        }
        // curl and others know their proxies by small letters as well.
        let upper = name.to_ascii_uppercase();
        if TRUSTED.contains(&name)
            || TRUSTED_PREFIXES.iter().any(|prefix| name.starts_with(prefix))
            || TRUSTED_SUFFIXES.iter().any(|suffix| upper.ends_with(suffix))
        {
            return Err(
                "programs trust this variable with what they run, or with who the user is: it is not for private directories",
            );
        }
        Ok(Self(name.to_owned()))
    }

    /// The variable's name.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for VariableName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// All that glibc 2.41 takes out of the environment of set-uid programs, but `TMPDIR`.
    const UNSECURE: &str = "GCONV_PATH GETCONF_DIR GLIBC_TUNABLES HOSTALIASES LD_AUDIT LD_BIND_NOT LD_BIND_NOW \
        LD_DEBUG LD_DEBUG_OUTPUT LD_DYNAMIC_WEAK LD_LIBRARY_PATH LD_ORIGIN_PATH LD_PRELOAD LD_PROFILE \
        LD_SHOW_AUXV LOCALDOMAIN LOCPATH MALLOC_TRACE NIS_PATH NLSPATH RESOLV_HOST_CONF RES_OPTIONS TZDIR";
    /// What sudo 1.9 removes or checks, and on Linux means something.
    const SUDO: &str = "IFS CDPATH LOCALDOMAIN RES_OPTIONS HOSTALIASES NLSPATH PATH_LOCALE _RLD_LIST SHLIB_PATH \
        LDR_PRELOAD DYLD_INSERT_LIBRARIES KRB5_CONFIG KRB5_KTNAME TERMINFO TERMINFO_DIRS TERMPATH TERMCAP ENV \
        BASH_ENV PS4 GLOBIGNORE BASHOPTS SHELLOPTS JAVA_TOOL_OPTIONS PERLIO_DEBUG PERLLIB PERL5LIB PERL5OPT \
        PERL5DB FPATH NULLCMD READNULLCMD ZDOTDIR TMPPREFIX PYTHONHOME PYTHONPATH PYTHONINSPECT PYTHONUSERBASE \
        RUBYLIB RUBYOPT COLORTERM LANG LANGUAGE LC_ALL LINGUAS TERM TZ";
    const SESSION: &str = "PATH HOME USER LOGNAME SHELL MAIL PWD DISPLAY XAUTHORITY WAYLAND_DISPLAY \
        XDG_RUNTIME_DIR XDG_SESSION_ID XDG_SEAT XDG_CONFIG_HOME DBUS_SESSION_BUS_ADDRESS SSH_AUTH_SOCK SUDO_USER \
        KRB5CCNAME NOTIFY_SOCKET LISTEN_FDS SYSTEMD_UNIT_PATH GPG_AGENT_INFO";
    const PROGRAMS: &str = "EDITOR PAGER LESSOPEN GIT_SSH_COMMAND GIT_DIR RUSTC RUSTC_WRAPPER RUSTFLAGS \
        CARGO_BUILD_RUSTC_WRAPPER CARGO_TARGET_X86_64_UNKNOWN_LINUX_GNU_LINKER CC CFLAGS MAKEFLAGS NODE_OPTIONS \
        NODE_PATH BASH_FUNC_ls PROMPT_COMMAND http_proxy HTTPS_PROXY no_proxy MAVEN_OPTS OPENSSL_CONF LUA_INIT";

    #[test]
    fn trusted_variables_are_refused() {
        for name in [UNSECURE, SUDO, SESSION, PROGRAMS].iter().flat_map(|names| names.split_whitespace()) {
            assert!(VariableName::new(name).is_err(), "{name}");
        }
    }

    #[test]
    fn directories_of_builds_and_caches_are_what_it_is_for() {
        for name in "TMPDIR TMP TEMP CARGO_TARGET_DIR CARGO_BUILD_BUILD_DIR CARGO_HOME RUSTUP_HOME SCCACHE_DIR CCACHE_DIR \
            CCACHE_TEMPDIR GOCACHE GOMODCACHE GOPATH GOTMPDIR XDG_CACHE_HOME PIP_CACHE_DIR UV_CACHE_DIR npm_config_cache \
            GRADLE_USER_HOME BUNDLE_PATH GEM_HOME HF_HOME TORCH_HOME CUDA_CACHE_PATH BUILD_DIR MY_DIR"
            .split_whitespace()
        {
            assert!(VariableName::new(name).is_ok(), "{name}");
        }
    }

    #[test]
    fn the_manual_page_names_them_all() {
        let page = include_str!("../../../man/fairslice-policy.5").replace("\\fB", " ").replace("\\fR", " ");
        let words: Vec<&str> = page.split(|c: char| c.is_whitespace() || c == ',' || c == ';').collect();
        for name in TRUSTED.iter().chain(&TRUSTED_PREFIXES).chain(&TRUSTED_SUFFIXES) {
            assert!(words.contains(name), "{name}");
        }
    }

    #[test]
    fn what_is_no_name() {
        for wrong in ["", "1A", "A-B", "A=B", "A B", "É", "A\n", "BASH_FUNC_ls%%"] {
            assert!(VariableName::new(wrong).is_err(), "{wrong:?}");
        }
    }
}
