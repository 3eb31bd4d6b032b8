// Package ingest imports certificate status that another program keeps, so far
// openssl's index.txt, into the master.
//
// It trusts nothing in the file but its statements about the issuer that the
// caller names, and never keeps or passes on a subject name. It promises: the
// whole file is judged before the first row is written, and one bad row stops
// all of it with its line and the reason; the plan is what apply does; a
// revocation is never taken back; a rerun writes only what is missing, so that
// an import that broke off is resumed by starting it again; memory grows by 8
// octets per row, whatever the rows hold.
package ingest
