package logical

import (
	"fmt"
	"time"

	"ocspfleet/db"
	"ocspfleet/db/sitedb"
)

// filesSight is everything that diagnoseFiles uses.
type filesSight struct {
	now    time.Time
	site   string
	stall  time.Duration // how long the files may lack what the master has signed
	local  sitedb.Subscription
	probe  filesProbe
	forked string    // how the master contradicts what it signed; empty: it does not
	wrong  string    // the fault of the files here; empty: none
	failed string    // why the last copy failed; empty: it did not
	wanted time.Time // as_of of what the master has signed and this site lacks; zero: nothing
	since  time.Time // when this was found
}

// filesResult is the fault, and what to do about it.
type filesResult struct {
	trouble string
	enable  bool
	seed    string // why the files are copied again
}

// diagnoseFiles says what is wrong with the subscription of the files, or with the files that it
// brought. It is pure.
func diagnoseFiles(s filesSight) filesResult {
	if s.forked != "" { // the files here are the evidence
		return filesResult{trouble: "the master contradicts what it signed: " + s.forked + ": ocspctl fleet status at the master, docs/feed-keys.md"}
	}
	why := unsoundFiles(s)
	if why == "" && !s.local.Enabled {
		return filesResult{trouble: "signed files: somebody disabled subscription " + db.FilesSubscriptionName + ", it is enabled again", enable: true}
	}
	if why == "" && !s.probe.at.IsZero() && s.probe.err == nil {
		why = slotLost(s.local.Slot, s.probe.slots)
	}
	if why == "" {
		why = s.wrong
	}
	switch {
	case why != "" && s.probe.err != nil:
		return filesResult{trouble: "signed files: " + why + ", and they cannot be copied: " + s.probe.err.Error()}
	case why != "":
		return filesResult{trouble: "signed files: " + why + "; ocspsyncd copies them anew" + s.failed, seed: why}
	}
	return lateFiles(s)
}

// unsoundFiles says how the subscription differs from what a seed sets up; empty: it does not.
func unsoundFiles(s filesSight) string {
	switch l := s.local; {
	case !l.Exists:
		return "they were never copied"
	case l.Wrong != "":
		return "their subscription is set otherwise than we do: " + l.Wrong
	case !ours(l.Slot, s.site) || !db.IsFilesSlot(l.Slot):
		return fmt.Sprintf("their subscription follows slot %q, which is not one of site %s for them", l.Slot, s.site)
	case l.Tables != sitedb.FilesTables || l.InStep != sitedb.FilesTables:
		return fmt.Sprintf("%d of %d tables are in step", l.InStep, l.Tables)
	}
	return ""
}

// lateFiles says whether files that the master has signed are late.
func lateFiles(s filesSight) filesResult {
	late := s.now.Sub(s.since)
	if s.wanted.IsZero() || late <= s.stall || s.probe.err != nil {
		return filesResult{}
	}
	cause := "its worker runs: somebody holds a lock on its tables, or deleted rows there"
	if !s.local.Worker {
		cause = fmt.Sprintf("its worker does not run, and failed %d times so far: this site's PostgreSQL log says why", s.local.Errors)
	}
	v := filesResult{trouble: fmt.Sprintf("signed files stand still: what the master signed at %s has not come; where feed.root is pinned, ocspd's copy ages: subscription %s: %s",
		s.wanted.UTC().Format(time.RFC3339), db.FilesSubscriptionName, cause)}
	if late > 4*s.stall {
		v.trouble += "; ocspsyncd copies them anew" + s.failed
		v.seed = "they stand still"
	}
	return v
}
