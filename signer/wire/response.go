package wire

import "time"

// The constant parts of an answer.
const (
	statusGood    = "\x80\x00"                                          // [0] IMPLICIT NULL
	statusUnknown = "\x82\x00"                                          // [2] IMPLICIT NULL
	successful    = "\x0a\x01\x00"                                      // ENUMERATED successful(0)
	responseType  = "\x06\x09" + oidBasic                               // id-pkix-ocsp-basic
	nonceOID      = "\x06\x09" + oidNonce                               // followed by the nonce
	cutoffOID     = "\x06\x09" + oidArchiveCutoff                       // followed by the time
	extRevoke     = "\x06\x09" + oidExtendedRevoke + "\x04\x02\x05\x00" // extnValue NULL, not critical
)

// Upper bounds for the size of an encoding without the octets that are copied; every header
// counts as 6 octets.
const (
	headerLen  = 6
	timeLen    = 2 + 15                      // GeneralizedTime with its header
	singleRoom = 3*timeLen + 4*headerLen + 5 // one SingleResponse: three times, reason, four constructed headers
	cutoffRoom = timeLen + 4*headerLen + len(cutoffOID)
	dataRoom   = timeLen + 24 + 4*headerLen // responderID is 24 octets
	extsRoom   = 2*headerLen + len(extRevoke) + len(nonceOID) + 5*headerLen
	basicRoom  = len(successful) + len(responseType) + 8*headerLen + 1
)

// Marshal returns the DER of tbsResponseData, the octets to sign
// (RFC 6960 section 4.2.1).
func (d ResponseData) Marshal() []byte {
	size := dataRoom + extsRoom + len(d.Nonce)
	for i := range d.Responses {
		size += singleRoom + len(d.Responses[i].CertID)
		if !d.Responses[i].ArchiveCutoff.IsZero() {
			size += cutoffRoom
		}
	}
	e := newEncoder(size)
	whole := e.mark()
	d.putExtensions(&e)
	list := e.mark()
	for i := len(d.Responses) - 1; i >= 0; i-- {
		d.Responses[i].put(&e)
	}
	e.wrap(tagSequence, list)
	e.putTime(d.ProducedAt)
	// RFC 9919 section 3.2: ResponderID byKey, [2] EXPLICIT KeyHash.
	responder := e.mark()
	e.put(d.ResponderKeyHash[:])
	e.wrap(tagOctetString, responder)
	e.wrap(tagExplicit+2, responder)
	e.wrap(tagSequence, whole)
	return e.bytes()
}

// putExtensions writes responseExtensions, [1] EXPLICIT, when there are any.
// RFC 9919 section 3.2.1: only those that the request asks for.
func (d *ResponseData) putExtensions(e *encoder) {
	if len(d.Nonce) == 0 && !d.ExtendedRevoke {
		return
	}
	list := e.mark()
	if d.ExtendedRevoke { // RFC 6960 section 4.4.8
		ext := e.mark()
		e.putString(extRevoke)
		e.wrap(tagSequence, ext)
	}
	if len(d.Nonce) > 0 { // RFC 9654 section 2.1: as in the request
		ext := e.mark()
		e.put(d.Nonce)
		e.wrap(tagOctetString, ext)
		e.wrap(tagOctetString, ext)
		e.putString(nonceOID)
		e.wrap(tagSequence, ext)
	}
	e.wrap(tagSequence, list)
	e.wrap(tagExplicit+1, list)
}

// put writes a SingleResponse.
func (r *SingleResponse) put(e *encoder) {
	single := e.mark()
	if !r.ArchiveCutoff.IsZero() { // singleExtensions, [1] EXPLICIT
		ext := e.mark()
		e.putTime(r.ArchiveCutoff)
		e.wrap(tagOctetString, ext)
		e.putString(cutoffOID)
		e.wrap(tagSequence, ext)
		e.wrap(tagSequence, ext)
		e.wrap(tagExplicit+1, ext)
	}
	next := e.mark()
	e.putTime(r.NextUpdate)
	e.wrap(tagExplicit+0, next)
	e.putTime(r.ThisUpdate)
	switch r.Status {
	case StatusGood:
		e.putString(statusGood)
	case StatusRevoked:
		revoked := e.mark()
		if encodedReason(r.Reason) {
			reason := e.mark()
			e.putByte(byte(r.Reason))
			e.wrap(tagEnumerated, reason)
			e.wrap(tagExplicit+0, reason)
		}
		e.putTime(r.RevokedAt)
		e.wrap(tagExplicit+1, revoked) // [1] IMPLICIT RevokedInfo: constructed as well
	default:
		e.putString(statusUnknown)
	}
	e.put(r.CertID)
	e.wrap(tagSequence, single)
}

// encodedReason says whether a reason is written: the CRLReasons of RFC 5280 section 5.3.1
// except unspecified(0), which must be absent; 7 is not used.
func encodedReason(reason int) bool {
	return reason >= 1 && reason <= 10 && reason != 7
}

// MarshalBasic returns a whole successful OCSPResponse of type
// id-pkix-ocsp-basic: tbs as Marshal made it, sigAlg as SignatureAlgorithm
// returned it, the signature over tbs, and the DER of each certificate to
// enclose (RFC 9919 section 3.2: the delegated one).
func MarshalBasic(tbs, sigAlg, signature []byte, certs ...[]byte) []byte {
	size := basicRoom + len(tbs) + len(sigAlg) + len(signature)
	for _, cert := range certs {
		size += len(cert)
	}
	e := newEncoder(size)
	whole := e.mark()
	if len(certs) > 0 {
		for i := len(certs) - 1; i >= 0; i-- {
			e.put(certs[i])
		}
		e.wrap(tagSequence, whole)
		e.wrap(tagExplicit+0, whole)
	}
	bits := e.mark()
	e.put(signature)
	e.putByte(0) // no unused bits
	e.wrap(tagBitString, bits)
	e.put(sigAlg)
	e.put(tbs)
	e.wrap(tagSequence, whole) // BasicOCSPResponse
	e.wrap(tagOctetString, whole)
	e.putString(responseType)
	e.wrap(tagSequence, whole) // ResponseBytes
	e.wrap(tagExplicit+0, whole)
	e.putString(successful)
	e.wrap(tagSequence, whole)
	return e.bytes()
}

// The whole of each error answer: an OCSPResponse without responseBytes.
var (
	malformedRequest = []byte{0x30, 0x03, 0x0a, 0x01, byte(MalformedRequest)}
	internalError    = []byte{0x30, 0x03, 0x0a, 0x01, byte(InternalError)}
	tryLater         = []byte{0x30, 0x03, 0x0a, 0x01, byte(TryLater)}
	sigRequired      = []byte{0x30, 0x03, 0x0a, 0x01, byte(SigRequired)}
	unauthorized     = []byte{0x30, 0x03, 0x0a, 0x01, byte(Unauthorized)}
)

// ErrorResponse returns the whole OCSPResponse, 5 octets, unsigned, for an error
// (RFC 6960 section 2.3). The slice is shared: it must not be changed. A status
// that does not exist reads as InternalError.
func ErrorResponse(status ErrorStatus) []byte {
	switch status {
	case MalformedRequest:
		return malformedRequest
	case TryLater:
		return tryLater
	case SigRequired:
		return sigRequired
	case Unauthorized:
		return unauthorized
	}
	return internalError
}

// The range of a GeneralizedTime with its four digits for the year.
var (
	firstTime = time.Date(0, 1, 1, 0, 0, 0, 0, time.UTC)
	lastTime  = time.Date(9999, 12, 31, 23, 59, 59, 0, time.UTC)
)

// putTime writes a GeneralizedTime in Z, with seconds, without fractions
// (RFC 9919 section 3.2.4). Times beyond four digits are moved to the nearest
// that can be written.
func (e *encoder) putTime(t time.Time) {
	t = t.UTC()
	if t.Before(firstTime) {
		t = firstTime
	} else if t.After(lastTime) {
		t = lastTime
	}
	year, month, day := t.Date()
	hour, minute, second := t.Clock()
	var b [15]byte
	putTwo(b[0:], year/100)
	putTwo(b[2:], year%100)
	putTwo(b[4:], int(month))
	putTwo(b[6:], day)
	putTwo(b[8:], hour)
	putTwo(b[10:], minute)
	putTwo(b[12:], second)
	b[14] = 'Z'
	start := e.mark()
	e.put(b[:])
	e.wrap(tagGeneralizedTime, start)
}

// putTwo writes n, 0 to 99, as two digits.
func putTwo(b []byte, n int) {
	b[0], b[1] = byte('0'+n/10), byte('0'+n%10)
}
