package lab

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/http"
	"net/url"
	"path/filepath"
	"time"

	"github.com/tritonops/tritonops/pkg/durable"
	"github.com/tritonops/tritonops/pkg/fail"
	"github.com/tritonops/tritonops/pkg/lab/fault"
	"github.com/tritonops/tritonops/pkg/lab/seed"
	"golang.org/x/crypto/ssh"
)

// Reflect reads what a directory holds, running or not. A directory without a
// lab is an error with exit code 4 and a hint.
func Reflect(dir string) (*State, error) {
	dir, err := filepath.Abs(dir)
	if err != nil {
		return nil, err
	}
	s, err := loadState(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fail.Hint(fail.New(fail.Refused, "%s: no lab here", dir), "tritonops lab up --dir %s --detach", dir)
	}
	return s, err
}

// Client talks to a running lab.
type Client struct {
	state *State
	http  *http.Client
}

// Connect finds the lab of a directory. Whether it runs shows at the first call.
func Connect(dir string) (*Client, error) {
	s, err := Reflect(dir)
	if err != nil {
		return nil, err
	}
	dialer := &net.Dialer{Timeout: 5 * time.Second}
	return &Client{state: s, http: &http.Client{Transport: &http.Transport{DisableKeepAlives: true,
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return dialer.DialContext(ctx, "unix", s.Control)
		}}}}, nil
}

// call sends one request to the control socket. A lab that does not answer is an
// error with exit code 8.
func (c *Client) call(ctx context.Context, method, path string, body, into any) error {
	var payload io.Reader
	if body != nil {
		b, err := json.Marshal(body)
		if err != nil {
			return err
		}
		payload = bytes.NewReader(b)
	}
	req, err := http.NewRequestWithContext(ctx, method, "http://lab"+path, payload)
	if err != nil {
		return err
	}
	res, err := c.http.Do(req)
	if err != nil {
		if ctx.Err() != nil {
			return ctx.Err()
		}
		return fail.Hint(fail.New(fail.Unreachable, "lab %s: not running: %w", c.state.Dir, errors.Unwrap(err)), "tritonops lab up --dir %s --detach", c.state.Dir)
	}
	defer res.Body.Close()
	if res.StatusCode != http.StatusOK {
		return controlFailure(res)
	}
	return json.NewDecoder(res.Body).Decode(into)
}

func controlFailure(res *http.Response) error {
	var ce controlError
	if err := json.NewDecoder(res.Body).Decode(&ce); err != nil {
		return fmt.Errorf("lab: control socket: %s", res.Status)
	}
	err := fail.New(fail.Code(ce.Code), "%s", ce.Message)
	for _, h := range ce.Hints {
		err = fail.Hint(err, "%s", h)
	}
	return err
}

// Status tells what runs.
func (c *Client) Status(ctx context.Context) (*Status, error) {
	var s Status
	if err := c.call(ctx, http.MethodGet, "/status", nil, &s); err != nil {
		return nil, err
	}
	return &s, nil
}

// Faults lists the faults in force.
func (c *Client) Faults(ctx context.Context) ([]fault.State, error) {
	var list []fault.State
	return list, c.call(ctx, http.MethodGet, "/faults", nil, &list)
}

// FaultKinds lists the kinds of fault there are.
func (c *Client) FaultKinds(ctx context.Context) ([]fault.KindHelp, error) {
	var list []fault.KindHelp
	return list, c.call(ctx, http.MethodGet, "/faults/kinds", nil, &list)
}

// AddFault puts a fault in force and returns it with its ID.
func (c *Client) AddFault(ctx context.Context, f fault.Fault) (fault.Fault, error) {
	var added fault.Fault
	return added, c.call(ctx, http.MethodPost, "/faults", f, &added)
}

// ClearFaults removes one fault, or all with an empty id, and tells how many
// there were.
func (c *Client) ClearFaults(ctx context.Context, id string) (int, error) {
	path := "/faults"
	if id != "" {
		path += "/" + url.PathEscape(id)
	}
	var n struct {
		Removed int `json:"removed"`
	}
	return n.Removed, c.call(ctx, http.MethodDelete, path, nil, &n)
}

// Service gives a service a command: enable, disable, restart, refresh, clear or
// crash. temporary commands are forgotten when the lab ends.
func (c *Client) Service(ctx context.Context, instance, service, verb string, temporary bool) (ServiceStatus, error) {
	q := url.Values{"service": {service}, "verb": {verb}}
	if temporary {
		q.Set("temporary", "true")
	}
	var s ServiceStatus
	return s, c.call(ctx, http.MethodPost, "/instances/"+url.PathEscape(instance)+"/smf?"+q.Encode(), nil, &s)
}

// Seed fills an instance with images.
func (c *Client) Seed(ctx context.Context, instance string, req SeedRequest) (seed.Summary, error) {
	var s seed.Summary
	return s, c.call(ctx, http.MethodPost, "/instances/"+url.PathEscape(instance)+"/seed", req, &s)
}

// Cron runs an instance's hourly jobs now.
func (c *Client) Cron(ctx context.Context, instance string) error {
	var none struct{}
	return c.call(ctx, http.MethodPost, "/instances/"+url.PathEscape(instance)+"/cron", nil, &none)
}

// AddKey puts a public key on the Manta account.
func (c *Client) AddKey(ctx context.Context, req KeyRequest) error {
	var none map[string]any
	return c.call(ctx, http.MethodPost, "/keys", req, &none)
}

// RemoveKey takes a public key off the Manta account.
func (c *Client) RemoveKey(ctx context.Context, req KeyRequest) error {
	var none map[string]any
	return c.call(ctx, http.MethodDelete, "/keys", req, &none)
}

func fingerprintOf(authorized string) (string, error) {
	pub, _, _, _, err := ssh.ParseAuthorizedKey([]byte(authorized))
	if err != nil {
		return "", fmt.Errorf("public key: not in authorized_keys form: %w", err)
	}
	return describeKey(pub, "").md5, nil
}

// Down ends a lab through its control socket and returns when its process has
// given the directory up. A lab that is down already is no error. Nothing is ever
// killed: a process that holds the directory and does not answer is an error.
func Down(ctx context.Context, dir string) (wasUp bool, err error) {
	c, err := Connect(dir)
	if err != nil {
		return false, err
	}
	var none struct{}
	asked := c.call(ctx, http.MethodPost, "/stop", nil, &none)
	wait := 30 * time.Second
	if asked != nil {
		wait = 0
	}
	for deadline := time.Now().Add(wait); ; {
		lock, err := durable.Acquire(paths{c.state.Dir}.lock(), "lab down")
		if err == nil {
			return asked == nil, errors.Join(removeControl(c.state), lock.Release())
		}
		var held *durable.HeldError
		switch {
		case !errors.As(err, &held):
			return false, err
		case time.Now().After(deadline) && asked != nil:
			return false, fail.New(fail.Held, "lab %s: its process does not answer on its control socket and is not killed: %w", c.state.Dir, err)
		case time.Now().After(deadline):
			return true, fail.New(fail.Midway, "lab %s: asked to end, still there after %s: %w", c.state.Dir, wait, err)
		}
		select {
		case <-ctx.Done():
			return asked == nil, ctx.Err()
		case <-time.After(20 * time.Millisecond):
		}
	}
}
