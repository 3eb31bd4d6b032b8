// Package upstream owns a native site's connections to the master's database: it sees the site's
// slots, the master's clock and what the master publishes, and copies rows as they are at the
// moment a slot is made.
//
// It trusts the master with everything but its clock. IsAccessDenied distinguishes a denied site
// from a wrong password by the routine in PostgreSQL's error, not by its text.
//
// It promises: it lists no other site's slots. The slot of a copy that failed is dropped (Export,
// GiveUp), if the master can be reached. A copy fails after a minute without a row.
//
// Read upstream.go first, then export.go.
package upstream
