package sshkey

import (
	"context"
	"encoding/asn1"
	"errors"
	"fmt"
	"math/big"
	"net"
	"os"
	"strings"
	"time"

	"golang.org/x/crypto/ssh"
	"golang.org/x/crypto/ssh/agent"
)

// agentTimeout bounds one exchange with the agent. It is long because an agent
// may ask its user (ssh-add -c).
const agentTimeout = 60 * time.Second

// FromAgent picks a key of the ssh-agent listening on a unix socket. id is a
// fingerprint in any form of [ParseFingerprint], or the path of a key file, whose
// public half (the .pub beside it) then says which. A key that is not there is
// ErrNotFound. Each signature is one connection to the agent, so an agent that
// was restarted goes on working.
func FromAgent(ctx context.Context, socket, id string) (*Key, error) {
	match, err := matcher(id)
	if err != nil {
		return nil, err
	}
	var found *agent.Key
	err = withAgent(ctx, socket, func(a agent.ExtendedAgent) error {
		keys, err := a.List()
		for _, k := range keys {
			// A certificate of the key is in the list too and cannot be used.
			if found == nil && !strings.Contains(k.Format, "-cert-v01@") && match(k) {
				found = k
			}
		}
		return err
	})
	if err != nil {
		return nil, err
	}
	if found == nil {
		return nil, fmt.Errorf("ssh-agent: %s: %w", id, ErrNotFound)
	}
	return agentKey(socket, found)
}

// matcher returns a test for the key that id names.
func matcher(id string) (func(ssh.PublicKey) bool, error) {
	fp, err := ParseFingerprint(id)
	if err == nil {
		return fp.Matches, nil
	}
	path := strings.TrimSuffix(id, ".pub") + ".pub"
	pub, _, perr := readPublic(path)
	if perr == nil {
		return func(k ssh.PublicKey) bool { return string(k.Marshal()) == string(pub.Marshal()) }, nil
	}
	if strings.ContainsRune(id, os.PathSeparator) {
		return nil, fmt.Errorf("key %s: its public half cannot be read: %w", id, perr)
	}
	return nil, err
}

// agentKey makes a Key of an agent's key.
func agentKey(socket string, k *agent.Key) (*Key, error) {
	pub, err := ssh.ParsePublicKey(k.Blob)
	if err != nil {
		return nil, fmt.Errorf("ssh-agent: %w: %w", ErrBadKey, err)
	}
	key := &Key{pub: pub, comment: k.Comment, origin: "ssh-agent"}
	switch k.Format {
	case ssh.KeyAlgoRSA:
		key.algorithm = "rsa-sha256"
	case ssh.KeyAlgoECDSA256:
		key.algorithm = "ecdsa-sha256"
	case ssh.KeyAlgoECDSA521:
		key.algorithm = "ecdsa-sha512"
	case ssh.KeyAlgoED25519:
		key.algorithm = "ed25519-sha512"
	case ssh.KeyAlgoECDSA384:
		return nil, fmt.Errorf("ssh-agent: key %s: an agent signs with SHA-384 for a P-384 key, which the service refuses; use the key file: %w", key.MD5(), ErrBadKey)
	default:
		return nil, fmt.Errorf("ssh-agent: key %s: type %s is not accepted: %w", key.MD5(), k.Format, ErrBadKey)
	}
	var flags agent.SignatureFlags
	if k.Format == ssh.KeyAlgoRSA { // agents refuse the flag for other keys
		flags = agent.SignatureFlagRsaSha256
	}
	key.sign = func(data []byte) (sig []byte, algorithm string, err error) {
		ctx, cancel := context.WithTimeout(context.Background(), agentTimeout)
		defer cancel()
		err = withAgent(ctx, socket, func(a agent.ExtendedAgent) error {
			s, err := a.SignWithFlags(pub, data, flags)
			if err == nil {
				sig, algorithm, err = fromSSH(s)
			}
			return err
		})
		return sig, algorithm, err
	}
	return key, nil
}

// fromSSH turns a signature of the SSH protocol (RFC 4253, 5656, 8332, 8709) into
// the form of the HTTP signature scheme.
func fromSSH(s *ssh.Signature) (sig []byte, algorithm string, err error) {
	switch s.Format {
	case ssh.KeyAlgoRSASHA256:
		return s.Blob, "rsa-sha256", nil
	case ssh.KeyAlgoRSA: // an old agent that knows no flags; the service takes it
		return s.Blob, "rsa-sha1", nil
	case ssh.KeyAlgoED25519:
		return s.Blob, "ed25519-sha512", nil
	case ssh.KeyAlgoECDSA256, ssh.KeyAlgoECDSA521:
		var rs struct{ R, S *big.Int }
		if err := ssh.Unmarshal(s.Blob, &rs); err != nil {
			return nil, "", err
		}
		der, err := asn1.Marshal(rs)
		if s.Format == ssh.KeyAlgoECDSA256 {
			return der, "ecdsa-sha256", err
		}
		return der, "ecdsa-sha512", err
	}
	return nil, "", fmt.Errorf("ssh-agent: signature of unknown format %q", s.Format)
}

// withAgent runs f over a connection of its own.
func withAgent(ctx context.Context, socket string, f func(agent.ExtendedAgent) error) error {
	if socket == "" {
		return fmt.Errorf("ssh-agent: no socket given: %w", ErrNotFound)
	}
	ctx, cancel := context.WithTimeout(ctx, agentTimeout)
	defer cancel()
	conn, err := (&net.Dialer{}).DialContext(ctx, "unix", socket)
	if err != nil {
		return fmt.Errorf("ssh-agent: %w", err)
	}
	defer conn.Close()
	stop := context.AfterFunc(ctx, func() { conn.Close() })
	defer stop()
	if err := f(agent.NewClient(conn)); err != nil {
		if cause := ctx.Err(); cause != nil {
			return fmt.Errorf("ssh-agent: %w", errors.Join(cause, err))
		}
		return fmt.Errorf("ssh-agent: %w", err)
	}
	return nil
}
