// Package approval is what one operator must not do alone: the noun approval of ocspctl,
// with what is asked for, and its verb approve.
//
// It trusts the master's functions to know who is a person, who asked, and that nobody
// agrees to his own request. It promises that a request is shown in full before it is agreed
// to, and that what is approved is done in one transaction; a correction of a permanent
// revocation is signed by the second person's own key, which stays with him.
//
// In reading order: approval.go (list), record.go (how a request is shown), request.go,
// approve.go (approve, approval refuse).
package approval
