// Package devfleet starts a whole OCSP fleet on one machine: a CA made by openssl,
// a master PostgreSQL with its ocspsyncd, and any number of sites, each with its
// own PostgreSQL, its own SoftHSM token, its own ocspsyncd and its own ocspd, all
// on 127.0.0.1. Tests, the demo and the bench stand on it as newcomers do.
//
// It does what an operator would do and by the same means: every act of the CA's
// staff is one call of the built ocspctl, every daemon the built program with a
// configuration file of its own. It owns one folder (Options.Dir) and, as root,
// one under /var/tmp for PostgreSQL's data. It signals only processes that it
// knows by their command line (a daemon with a configuration in its folder) or
// by their working directory (a postmaster on a data folder of its own).
//
// Passwords, PINs and CA keys lie in that folder, mode 0600: it is for one
// developer's machine and protects nothing.
package devfleet
