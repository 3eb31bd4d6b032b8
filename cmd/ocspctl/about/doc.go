// Package about is what ocspctl tells of itself: the verbs man and version.
//
// It trusts nothing and opens nothing but the folder that it writes to. It promises that every
// verb has a page, made from the verb itself.
package about
