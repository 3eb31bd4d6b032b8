// Package reentry is what feed recover and fleet lost share: how ocspctl shows what a
// master lost, and enters it again once two persons have agreed.
//
// It trusts sync/recovery with what was lost, and the master's function with who agreed to it.
// It promises that both persons see one sum of what is entered, and that nothing else is.
//
// In reading order: reentry.go, plan.go.
package reentry
