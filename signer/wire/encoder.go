package wire

// Tags of what we encode (X.690 section 8.1.2).
const (
	tagBitString       = 0x03
	tagOctetString     = 0x04
	tagEnumerated      = 0x0a
	tagGeneralizedTime = 0x18
	tagSequence        = 0x30
	tagExplicit        = 0xa0 // plus the number: context-specific, constructed
)

// encoder writes DER from its end to its start: when a header is written, the length of its
// content is already known, so nothing is counted or moved twice.
type encoder struct {
	buf   []byte
	start int // the content is buf[start:]
}

// newEncoder returns an encoder with room for size octets. It grows when that is too small, at
// the price of another allocation.
func newEncoder(size int) encoder {
	return encoder{buf: make([]byte, size), start: size}
}

// bytes returns what was written.
func (e *encoder) bytes() []byte { return e.buf[e.start:] }

// mark returns the place where the next element to be written ends, counted from the end of the
// buffer.
func (e *encoder) mark() int { return len(e.buf) - e.start }

// reserve makes room for n octets before the content and returns them.
func (e *encoder) reserve(n int) []byte {
	if n > e.start {
		grown := make([]byte, 2*len(e.buf)+n)
		start := len(grown) - e.mark()
		copy(grown[start:], e.bytes())
		e.buf, e.start = grown, start
	}
	e.start -= n
	return e.buf[e.start : e.start+n]
}

func (e *encoder) put(b []byte)       { copy(e.reserve(len(b)), b) }
func (e *encoder) putString(s string) { copy(e.reserve(len(s)), s) }
func (e *encoder) putByte(b byte)     { e.reserve(1)[0] = b }

// wrap writes the header that makes one element of everything written since mark returned end.
// The length is minimal (X.690 section 10.1).
func (e *encoder) wrap(tag byte, end int) {
	length := e.mark() - end
	if length < 0x80 {
		h := e.reserve(2)
		h[0], h[1] = tag, byte(length)
		return
	}
	octets := byte(0)
	for n := length; n > 0; n >>= 8 {
		e.putByte(byte(n))
		octets++
	}
	h := e.reserve(2)
	h[0], h[1] = tag, 0x80|octets
}
