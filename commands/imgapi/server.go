package imgapi

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os/exec"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/tritonops/tritonops/commands/cli"
	"github.com/tritonops/tritonops/pkg/fail"
	imgapiclient "github.com/tritonops/tritonops/pkg/imgapi"
	"github.com/tritonops/tritonops/pkg/instance"
)

// serverOptions say how the stock server is stopped and started.
type serverOptions struct {
	Stop      string        `json:"stop"`
	Start     string        `json:"start"`
	NoRestart bool          `json:"no_restart,omitempty"`
	URL       string        `json:"url,omitempty"`
	Wait      time.Duration `json:"wait"`
}

func (o *serverOptions) addServerFlags(cmd *cobra.Command) {
	f := cmd.Flags()
	f.StringVar(&o.Stop, "stop-cmd", "svcadm disable -s imgapi", "shell `COMMAND` that stops the image server")
	f.StringVar(&o.Start, "start-cmd", "svcadm enable -s imgapi", "shell `COMMAND` that starts the image server")
	f.BoolVar(&o.NoRestart, "no-restart", false, "leave the server alone; it serves the old manifests until it is restarted")
	f.StringVar(&o.URL, "backend-url", "", "`URL` of the image server itself (default: address and port of its configuration)")
	cli.DurationVar(f, &o.Wait, "start-wait", 2*time.Minute, "how long the server may take to answer after its start")
}

func (o *serverOptions) validate() error {
	switch {
	case !o.NoRestart && (strings.TrimSpace(o.Stop) == "" || strings.TrimSpace(o.Start) == ""):
		return fail.Hint(fail.New(fail.Usage, "--stop-cmd and --start-cmd: must not be empty"), "to leave the server alone say --no-restart")
	case o.Wait <= 0:
		return fail.New(fail.Usage, "--start-wait: want more than 0")
	}
	return nil
}

// server is the stock image server of the instance. It implements
// backup.Server.
type server struct {
	env  *cli.Env
	inst *instance.Instance
	o    serverOptions
}

// Stop runs the stop command.
func (s *server) Stop(ctx context.Context) error { return s.shell(ctx, s.o.Stop) }

// Start runs the start command and waits for the answer to a ping.
func (s *server) Start(ctx context.Context) error {
	if err := s.shell(ctx, s.o.Start); err != nil {
		return err
	}
	c, err := s.client()
	if err != nil {
		return err
	}
	defer c.Close()
	ctx, cancel := context.WithTimeout(ctx, s.o.Wait)
	defer cancel()
	for {
		if _, err = c.Ping(ctx); err == nil {
			return nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("%s: does not answer %s after %q: %w", c.URL(), s.o.Wait, s.o.Start, err)
		case <-time.After(300 * time.Millisecond):
		}
	}
}

// Listed asks for the active images of all channels.
func (s *server) Listed(ctx context.Context) (map[string]bool, error) {
	c, err := s.client()
	if err != nil {
		return nil, err
	}
	defer c.Close()
	f := imgapiclient.Filter{}
	if len(s.inst.Config.Channels) > 0 {
		f.Channel = "*"
	}
	out := map[string]bool{}
	for img, err := range c.ListImages(ctx, f) {
		if err != nil {
			return nil, err
		}
		out[img.UUID] = true
	}
	return out, nil
}

func (s *server) client() (*imgapiclient.Client, error) {
	url := s.o.URL
	if url == "" {
		url = fmt.Sprintf("http://%s:%d", s.inst.Config.Address, s.inst.Config.Port)
	}
	return imgapiclient.New(imgapiclient.Config{URL: url, UserAgent: "tritonops/" + s.env.Version})
}

// shell runs an operator's command. Its output appears only in an error.
func (s *server) shell(ctx context.Context, command string) error {
	ctx, cancel := context.WithTimeout(ctx, 2*time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, "sh", "-c", command)
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	cmd.WaitDelay = 2 * time.Second
	err := cmd.Run()
	if err == nil {
		return nil
	}
	said := strings.TrimSpace(s.env.UI.Redactor.Redact(out.String()))
	if errors.Is(ctx.Err(), context.DeadlineExceeded) {
		err = fmt.Errorf("no end after 2 minutes")
	}
	if said != "" {
		err = fmt.Errorf("%w: %s", err, said)
	}
	return fail.Hint(fmt.Errorf("%s: %w", command, err), "name the commands of this machine with --stop-cmd and --start-cmd, or say --no-restart")
}
