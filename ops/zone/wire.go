package zone

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"

	"github.com/miekg/dns"
)

// maxUDP is the longest message that a server without EDNS accepts by UDP (RFC 1035 section 4.2.1).
const maxUDP = 512

// exchange sends a message and returns the answer: by UDP, by UDP again if none came, and then,
// or when the message is too long for UDP, by TCP. build is called for each try, since a
// signature contains the time. An update may thus arrive twice: its prerequisites make the
// second one fail.
func (z *Zone) exchange(ctx context.Context, server string, signed bool, build func() *dns.Msg) (*dns.Msg, error) {
	tries := []string{"udp", "udp", "tcp"}
	if build().Len() > maxUDP-z.signature(signed) {
		tries = []string{"tcp", "tcp"}
	}
	var last error
	for i := 0; i < len(tries); i++ {
		answer, err := z.try(ctx, tries[i], server, signed, build())
		switch {
		case ctx.Err() != nil:
			return nil, fmt.Errorf("asking %s: %w", server, ctx.Err())
		case err == nil && answer.Truncated && tries[i] == "udp":
			tries = append(tries[:i+1], "tcp") // RFC 2181 section 9
			last = errors.New("the answer by UDP is cut off")
		case err == nil:
			return answer, nil
		default:
			last = fmt.Errorf("by %s: %w", strings.ToUpper(tries[i]), err)
			if unreachable := (*net.OpError)(nil); tries[i] == "udp" && errors.As(err, &unreachable) && !unreachable.Timeout() {
				tries = append(tries[:i+1], "tcp") // no server listens there: a second try is useless
			}
		}
	}
	return nil, fmt.Errorf("asking %s: %w", server, last)
}

// signature is the size of the TSIG record in octets.
func (z *Zone) signature(signed bool) int {
	if !signed {
		return 0
	}
	return len(z.c.Key.Name) + len(z.c.Key.wire()) + 100 // the MAC has at most 64
}

// try sends one query and returns its answer.
func (z *Zone) try(ctx context.Context, network, server string, signed bool, m *dns.Msg) (*dns.Msg, error) {
	within, cancel := context.WithTimeout(ctx, z.c.Timeout)
	defer cancel()
	var raw []byte
	var mac string
	var err error
	if signed {
		m.SetTsig(z.c.Key.Name, z.c.Key.wire(), fudge, z.c.Now().Unix())
		raw, mac, err = dns.TsigGenerate(m, z.c.Key.base64(), "", false)
	} else {
		raw, err = m.Pack()
	}
	if err != nil {
		return nil, fmt.Errorf("making the message: %w", err)
	}
	conn, err := (&net.Dialer{}).DialContext(within, network, server)
	if err != nil {
		return nil, err
	}
	defer conn.Close()
	defer context.AfterFunc(ctx, func() { conn.Close() })()
	deadline, _ := within.Deadline()
	if err := conn.SetDeadline(deadline); err != nil {
		return nil, err
	}
	if network == "tcp" {
		raw = append(binary.BigEndian.AppendUint16(nil, uint16(len(raw))), raw...)
	}
	if _, err := conn.Write(raw); err != nil {
		return nil, err
	}
	return z.await(conn, network, m, signed, mac)
}

// await reads until the answer is there. Over UDP any host can send packets: those that do not
// match are skipped (RFC 8945 section 5.3.1), and the last fault is returned if no answer
// comes.
func (z *Zone) await(conn net.Conn, network string, question *dns.Msg, signed bool, mac string) (*dns.Msg, error) {
	var unfit error
	for {
		raw, err := receive(conn, network)
		if err != nil {
			return nil, errors.Join(unfit, err)
		}
		answer, err := fits(raw, question)
		if err == nil && signed {
			err = z.verify(raw, answer, mac)
		}
		if err == nil {
			return answer, nil
		}
		if unfit = err; network == "tcp" {
			return nil, unfit
		}
	}
}

func receive(conn net.Conn, network string) ([]byte, error) {
	if network == "udp" {
		raw := make([]byte, dns.MaxMsgSize)
		n, err := conn.Read(raw)
		return raw[:n], err
	}
	var length [2]byte
	if _, err := io.ReadFull(conn, length[:]); err != nil {
		return nil, err
	}
	raw := make([]byte, binary.BigEndian.Uint16(length[:]))
	_, err := io.ReadFull(conn, raw)
	return raw, err
}

// fits reads an answer and checks that it belongs to the query.
func fits(raw []byte, question *dns.Msg) (*dns.Msg, error) {
	answer := &dns.Msg{}
	if err := answer.Unpack(raw); err != nil {
		return nil, fmt.Errorf("reading the answer: %w", err)
	}
	if answer.Id != question.Id || !answer.Response || answer.Opcode != question.Opcode {
		return nil, errors.New("the answer is to another question")
	}
	// An error answer may omit the question.
	if len(answer.Question) > 0 && (answer.Question[0].Qtype != question.Question[0].Qtype ||
		dns.CanonicalName(answer.Question[0].Name) != dns.CanonicalName(question.Question[0].Name)) {
		return nil, errors.New("the answer is to another question")
	}
	return answer, nil
}
