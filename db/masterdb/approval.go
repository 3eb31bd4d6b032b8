package masterdb

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"time"

	"ocspfleet/db"
	"ocspfleet/db/internal/pg"
	"ocspfleet/db/tables"

	"github.com/jackc/pgx/v5"
)

// ErrNoApproval says that there is no request for approval with that number.
var ErrNoApproval = errors.New("no such request for approval")

// ApprovalAct is the act that needs a second person's agreement.
type ApprovalAct string

// The acts that need two persons.
const (
	ApprovalCorrect ApprovalAct = "cert correct" // the master's data on certificates is wrong
	ApprovalPurge   ApprovalAct = "db purge"     // ended certificates may be deleted
	ApprovalBulk    ApprovalAct = "bulk"         // more revocations in an hour than the limit
	ApprovalCRLURL  ApprovalAct = "issuer crl_url"
	ApprovalFork    ApprovalAct = "fork settle"  // contradictions of the feed were examined
	ApprovalRecover ApprovalAct = "feed recover" // certificates that this master signed and lost are entered again
	ApprovalLost    ApprovalAct = "fleet lost"   // permanent revocations that only a site knows are entered
)

// Approval is a request for a second person's agreement, and its result.
type Approval struct {
	ID       int64
	Act      ApprovalAct
	Issuer   db.IssuerID // of a purge, of a crl_url, or of a correction, as are the next three
	Wrong    db.Wrong
	NotAfter time.Time // the correct end, of WrongNotAfter
	Taken    []db.Taken
	// CorrectedAt is when the correction was requested, by the master's clock: its signed notes
	// have this time.
	CorrectedAt time.Time
	CRLURL      string // of a crl_url: the new one, and the one before
	BeforeURL   string
	EndedBefore time.Time // of a purge: certificates that ended before it may be deleted
	Count       int64     // of a bulk
	Forks       []int64   // of a fork settle
	Recovery    Recovered // of a feed recover or fleet lost
	For         string    // of a bulk: the login that may revoke
	Remaining   int64     // of an approved bulk: revocations still allowed
	Why         string
	Login       string // the requester's database login, which is proven
	User        string // and the operating system's user, as the client reports it
	At          time.Time
	ExpiresAt   time.Time // until when it can be approved or, for an approved bulk, used
	ApprovedBy  string    // the second login; empty: not yet
	ApprovedAt  time.Time
	RefusedBy   string // the login that refused or withdrew it; empty: none
	RefusedAt   time.Time
}

// Recovered describes the lost certificates of a request.
type Recovered struct {
	From                string   `json:"from"`
	Epoch               int64    `json:"epoch"`
	Position            int64    `json:"position"` // of the feed; 0: a site's claim
	Good, Held, Revoked int64    // how many certificates
	Batches             []string `json:"batches"` // RecoverBatch.Sum of each
}

// RequestCorrection asks for the agreement of a second person that permanent revocations of at
// most 100 certificates were wrong. Nothing changes until another login approves. act.Why must
// give the reason.
func (s *DB) RequestCorrection(ctx context.Context, issuer db.IssuerID, serials []db.Serial, act db.Act) (id int64, expires time.Time, err error) {
	return s.requestCorrection(ctx, map[string]any{"wrong": db.WrongRevoked}, issuer, serials, act)
}

// RequestUnissue asks in the same way for agreement that certificates were never issued. After the
// approval the master and its sites delete them.
func (s *DB) RequestUnissue(ctx context.Context, issuer db.IssuerID, serials []db.Serial, act db.Act) (id int64, expires time.Time, err error) {
	return s.requestCorrection(ctx, map[string]any{"wrong": db.WrongIssued}, issuer, serials, act)
}

// RequestEnd asks in the same way for agreement that certificates end at notAfter, which may be
// sooner than the master says.
func (s *DB) RequestEnd(ctx context.Context, issuer db.IssuerID, serials []db.Serial, notAfter time.Time, act db.Act) (id int64, expires time.Time, err error) {
	return s.requestCorrection(ctx, map[string]any{"wrong": db.WrongNotAfter, "not_after": notAfter.UTC()}, issuer, serials, act)
}

func (s *DB) requestCorrection(ctx context.Context, details map[string]any, issuer db.IssuerID, serials []db.Serial, act db.Act) (id int64, expires time.Time, err error) {
	texts := make([]string, len(serials))
	for i, serial := range serials {
		texts[i] = serial.String()
	}
	details["issuer"], details["serials"] = issuer, texts
	return s.request(ctx, ApprovalCorrect, details, act)
}

// RequestCRLURL asks for the agreement of a second person that an issuer's CRL has another
// address: a CRL of the responders at the address of another CRL would be taken for that one.
func (s *DB) RequestCRLURL(ctx context.Context, issuer db.IssuerID, url string, act db.Act) (id int64, expires time.Time, err error) {
	return s.request(ctx, ApprovalCRLURL, map[string]any{"issuer": issuer, "crl_url": url}, act)
}

func (s *DB) request(ctx context.Context, what ApprovalAct, details map[string]any, act db.Act) (id int64, expires time.Time, err error) {
	err = s.pool.QueryRow(ctx, "select id, expires_at from approval_request($1, $2, $3, $4)", what, details, act.Why, act.User).Scan(&id, &expires)
	if err != nil {
		return 0, time.Time{}, fmt.Errorf("requesting approval of %s: %w", what, pg.Plain(err))
	}
	return id, expires.UTC(), nil
}

// Approve agrees to another login's request. A correction is made in the same transaction, with a
// note for each certificate that is permanently revoked (feed.CorrectionNote); a bulk is an
// allowance from now on, for 24 hours, and a purge may begin.
func (s *DB) Approve(ctx context.Context, id int64, act db.Act, notes ...db.SignedCorrection) error {
	serials, signed := make([][]byte, len(notes)), make([][]byte, len(notes))
	for i, n := range notes {
		serials[i], signed[i] = n.Serial, n.Note
	}
	return s.pool.Do(ctx, fmt.Sprintf("approving request %d", id), "select approval_give($1, $2, $3, $4, $5)", id, act.Why, act.User, serials, signed)
}

// Refuse refuses a request of another login, or withdraws one of this login. act.Why must give the
// reason.
func (s *DB) Refuse(ctx context.Context, id int64, act db.Act) error {
	return s.pool.Do(ctx, fmt.Sprintf("refusing request %d", id), "select approval_refuse($1, $2, $3)", id, act.Why, act.User)
}

const selectApproval = `select id, act, what, coalesce(remaining, 0), why, db_role, os_user, at, expires_at,
	coalesce(approved_by, ''), approved_at, coalesce(refused_by, ''), refused_at from approval `

// Approval reads one request, or ErrNoApproval.
func (s *DB) Approval(ctx context.Context, id int64) (Approval, error) {
	rows, err := s.pool.Query(ctx, selectApproval+"where id = $1", id)
	if err != nil {
		return Approval{}, fmt.Errorf("reading request %d: %w", id, pg.Plain(err))
	}
	a, err := pgx.CollectExactlyOneRow(rows, scanApproval)
	if errors.Is(err, pgx.ErrNoRows) {
		return Approval{}, fmt.Errorf("request %d: %w", id, ErrNoApproval)
	}
	if err != nil {
		return Approval{}, fmt.Errorf("reading request %d: %w", id, pg.Plain(err))
	}
	return a, nil
}

// Approvals lists the latest requests, at most limit, the newest first; only open ones if open is
// set.
func (s *DB) Approvals(ctx context.Context, open bool, limit int) ([]Approval, error) {
	where := "where true "
	if open {
		where = "where approved_at is null and refused_at is null and expires_at > clock_timestamp() "
	}
	return pg.List(ctx, s.pool, "reading requests", scanApproval, selectApproval+where+"order by id desc limit $1", limit)
}

func scanApproval(row pgx.CollectableRow) (Approval, error) {
	var a Approval
	var what []byte
	var approvedAt, refusedAt *time.Time
	err := row.Scan(&a.ID, &a.Act, &what, &a.Remaining, &a.Why, &a.Login, &a.User, &a.At, &a.ExpiresAt, &a.ApprovedBy, &approvedAt, &a.RefusedBy, &refusedAt)
	if err != nil {
		return a, err
	}
	a.At, a.ExpiresAt = a.At.UTC(), a.ExpiresAt.UTC()
	a.ApprovedAt, a.RefusedAt = db.TimeOrZero(approvedAt), db.TimeOrZero(refusedAt)
	var details struct {
		Recovered
		Issuer       db.IssuerID `json:"issuer"`
		Wrong        db.Wrong    `json:"wrong"`
		NotAfter     *time.Time  `json:"not_after"`
		CRLURL       string      `json:"crl_url"`
		Before       string      `json:"before"`
		CorrectedAt  *time.Time  `json:"corrected_at"`
		EndedBefore  *time.Time  `json:"ended_before"`
		Login        string      `json:"login"`
		Count        int64       `json:"count"`
		Forks        []int64     `json:"forks"`
		Certificates []struct {
			Serial    string     `json:"serial"`
			RevokedAt *time.Time `json:"revoked_at"`
			Reason    *db.Reason `json:"reason"`
			NotAfter  time.Time  `json:"not_after"`
		} `json:"certificates"`
	}
	if err := json.Unmarshal(what, &details); err != nil {
		return a, fmt.Errorf("reading request %d: %w", a.ID, err)
	}
	a.CRLURL, a.BeforeURL, a.EndedBefore, a.For = details.CRLURL, details.Before, db.TimeOrZero(details.EndedBefore), details.Login
	a.Issuer, a.Count, a.Forks, a.Wrong, a.NotAfter = details.Issuer, details.Count, details.Forks, details.Wrong, db.TimeOrZero(details.NotAfter)
	a.CorrectedAt, a.Recovery = db.TimeOrZero(details.CorrectedAt), details.Recovered
	for _, c := range details.Certificates {
		serial, err := db.ParseSerial(c.Serial)
		if err != nil {
			return a, fmt.Errorf("reading request %d: %w", a.ID, err)
		}
		taken := db.Taken{Serial: serial, Revoked: c.RevokedAt != nil, RevokedAt: db.TimeOrZero(c.RevokedAt), Reason: db.ReasonNone, NotAfter: c.NotAfter.UTC()}
		if c.Reason != nil {
			taken.Reason = *c.Reason
		}
		a.Taken = append(a.Taken, taken)
	}
	return a, nil
}

// NewEpoch begins a new history on a master that was restored from a backup or was poisoned. The
// head counts the rows as they are: a row written past the triggers, and corrected since, is
// counted right again. NewEpoch returns the tables of such rows, also for the audit. The store's
// login must be a superuser.
func (s *DB) NewEpoch(ctx context.Context, epoch int64, act db.Act) (recounted []string, err error) {
	err = pgx.BeginFunc(ctx, s.pool, func(tx pgx.Tx) error {
		if _, err := tx.Exec(ctx, "select from feed_head for no key update"); err != nil {
			return err
		}
		counts, err := tables.Recount(ctx, tx)
		if err != nil {
			return err
		}
		recounted = []string{}
		for _, c := range counts {
			if c.Identical {
				continue
			}
			recounted = append(recounted, c.Table)
			sql := fmt.Sprintf("update feed_head set %[1]s_count = $1, %[1]s_digest = $2::text::numeric", c.Table)
			if _, err := tx.Exec(ctx, sql, c.Counted.Count, strconv.FormatUint(uint64(c.Counted.Digest), 10)); err != nil {
				return err
			}
		}
		_, err = tx.Exec(ctx, "select epoch_new($1, $2, $3, $4)", epoch, recounted, act.Why, act.User)
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("beginning a new epoch: %w", pg.Plain(err))
	}
	return recounted, nil
}
