// Package issuer is the noun of ocspctl for the CAs that the fleet answers for: their
// certificates at the master, and the policy of the answers.
//
// It trusts the master's functions with the bounds of a policy. It promises that old and new
// stand side by side before anything is done, with what clients, sites and staff will notice,
// and that another place of the CRLs needs a second person.
//
// In reading order: issuer.go (how an issuer is shown, list), policy.go, add.go, set.go,
// compare.go.
package issuer
