// Package ctl is what several nouns of ocspctl share: a run of a verb at the master's or a
// site's database, the change that is planned or done, an issuer by the staff's name, a
// certificate's status as it is shown, the request for a second person, the hourly limit
// of an import.
//
// A verb at the master is a struct with Doc and Run(ctx, *ctl.Master); ctl.AtMaster makes
// it a cli.Verb. It changes rows through Master.Try alone, which decides once what a plan
// is: the act itself, rolled back.
package ctl
