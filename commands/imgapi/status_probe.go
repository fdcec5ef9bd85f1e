package imgapi

import (
	"context"
	"errors"
	"iter"
	"net"
	"strconv"
	"time"

	"github.com/tritonops/tritonops/commands/cli"
	"github.com/tritonops/tritonops/pkg/imgapi"
	"github.com/tritonops/tritonops/pkg/instance"
	"github.com/tritonops/tritonops/pkg/instance/status"
	"github.com/tritonops/tritonops/pkg/rest"
)

// statusServer is an image server's client as the checks see it.
type statusServer struct {
	c *imgapi.Client
	// channel is where single images are looked for: any, where the server has
	// channels.
	channel string
}

// newStatusServer makes a client that believes any certificate: the instance
// comes with a self-signed one, and judging it is a check of its own.
func newStatusServer(env *cli.Env, inst *instance.Instance, url string, timeout time.Duration) (statusServer, error) {
	c, err := imgapi.New(imgapi.Config{
		URL: url, TLS: rest.TLS{Insecure: true}, Timeout: timeout, Stall: timeout,
		Retry: rest.Retry{Attempts: 2}, UserAgent: "tritonops/" + env.Version,
	})
	s := statusServer{c: c}
	if len(inst.Config.Channels) > 0 {
		s.channel = "*"
	}
	return s, err
}

// localURL is where the stock server itself listens.
func localURL(cfg *instance.Config) string {
	host := cfg.Address
	if ip := net.ParseIP(host); host == "" || ip != nil && ip.IsUnspecified() {
		host = "127.0.0.1"
	}
	return "http://" + net.JoinHostPort(host, strconv.Itoa(cfg.Port))
}

// URL implements status.Server.
func (s statusServer) URL() string { return s.c.URL() }

// Ping implements status.Server.
func (s statusServer) Ping(ctx context.Context) (status.Pong, error) {
	p, err := s.c.Ping(ctx)
	if err != nil {
		return status.Pong{}, err
	}
	return status.Pong{Version: p.Version, State: p.State, Reason: p.Reason}, nil
}

// Images implements status.Server.
func (s statusServer) Images(ctx context.Context, channel string) iter.Seq2[string, error] {
	return func(yield func(string, error) bool) {
		for img, err := range s.c.ListImages(ctx, imgapi.Filter{Channel: channel}) {
			if err != nil {
				yield("", err)
				return
			}
			if !yield(img.UUID, nil) {
				return
			}
		}
	}
}

// ImageState implements status.Server.
func (s statusServer) ImageState(ctx context.Context, uuid string) (string, error) {
	img, err := s.c.GetImage(ctx, uuid, s.channel)
	switch {
	case errors.Is(err, rest.ErrNotFound):
		return "", nil
	case err != nil:
		return "", err
	}
	return img.State, nil
}
