package lab

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/tritonops/tritonops/pkg/fail"
	"github.com/tritonops/tritonops/pkg/lab/fault"
	"github.com/tritonops/tritonops/pkg/lab/mantad"
	"github.com/tritonops/tritonops/pkg/lab/seed"
)

// Status is a lab as its control socket tells it.
type Status struct {
	State
	Notice   string                     `json:"notice"`
	PID      int                        `json:"pid"`
	Since    time.Time                  `json:"since"`
	Services map[string][]ServiceStatus `json:"services"` // by instance
	Faults   []fault.State              `json:"faults"`
	Requests mantad.Stats               `json:"manta_requests"`
}

// SeedRequest asks for images on an instance. Its server is stopped meanwhile.
type SeedRequest struct {
	Images   int    `json:"images"`
	SizeDist string `json:"size_dist"`
	Seed     uint64 `json:"seed"`
	Files    int    `json:"files"`
	MaxSize  int64  `json:"max_size"`
	// Stor is where the files with bytes are: local (the default), manta or
	// mixed, as [seed.Config] has it.
	Stor string `json:"stor,omitempty"`
}

// KeyRequest puts a public key on the Manta account or takes it off. Without a
// key it means the instance's own.
type KeyRequest struct {
	Instance string `json:"instance,omitempty"`
	Key      string `json:"key,omitempty"` // authorized_keys form
}

func (l *Lab) listenControl() error {
	path := l.state.Control
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return err
	}
	if err := private(filepath.Dir(path)); err != nil {
		return err
	}
	// the lock is ours, so a socket that is there is a dead lab's
	if err := os.Remove(path); err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	listener, err := net.Listen("unix", path)
	if err != nil {
		return err
	}
	if err := os.Chmod(path, 0o600); err != nil {
		return errors.Join(err, listener.Close())
	}
	mux := http.NewServeMux()
	for pattern, h := range map[string]func(*http.Request) (any, error){
		"GET /status":                 func(*http.Request) (any, error) { return l.status(), nil },
		"POST /stop":                  l.controlStop,
		"GET /faults":                 func(*http.Request) (any, error) { return l.faults.List(), nil },
		"GET /faults/kinds":           func(*http.Request) (any, error) { return l.faults.Kinds(), nil },
		"POST /faults":                l.controlAddFault,
		"DELETE /faults":              l.controlClearFaults,
		"DELETE /faults/{id}":         l.controlRemoveFault,
		"POST /instances/{name}/seed": l.controlSeed,
		"POST /instances/{name}/smf":  l.controlService,
		"POST /keys":                  l.controlAddKey,
		"DELETE /keys":                l.controlRemoveKey,
		"POST /manta/requests/reset":  func(*http.Request) (any, error) { return l.manta.ResetStats(), nil },
		"POST /instances/{name}/cron": l.controlCron,
	} {
		mux.HandleFunc(pattern, answer(h))
	}
	l.control = &http.Server{Handler: mux, ErrorLog: log.New(io.Discard, "", 0), ReadHeaderTimeout: 10 * time.Second}
	l.wg.Go(func() { _ = l.control.Serve(listener) }) // ends with Close
	return nil
}

// private makes sure that a directory is ours alone: under the system's
// temporary directory somebody else may have made it first.
func private(dir string) error {
	fi, err := os.Lstat(dir)
	if err != nil {
		return err
	}
	st, ok := fi.Sys().(*syscall.Stat_t)
	if !fi.IsDir() || fi.Mode().Perm()&0o077 != 0 || !ok || int(st.Uid) != os.Getuid() {
		return fail.New(fail.Refused, "lab: control socket directory %s: others may use it", dir)
	}
	return nil
}

// removeControl takes away what the control socket leaves outside the lab's
// directory.
func removeControl(s *State) error {
	dir := filepath.Dir(s.Control)
	for _, p := range []string{s.Control, dir} {
		if p == dir && dir == filepath.Dir((paths{s.Dir}).control()) {
			continue
		}
		if err := os.Remove(p); err != nil && !errors.Is(err, os.ErrNotExist) {
			return err
		}
	}
	return nil
}

// controlError is an error on the control socket.
type controlError struct {
	Message string   `json:"message"`
	Code    int      `json:"code"` // exit code
	Hints   []string `json:"hints,omitempty"`
}

func answer(h func(*http.Request) (any, error)) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		v, err := h(r)
		status := http.StatusOK
		if err != nil {
			status = http.StatusUnprocessableEntity
			v = controlError{Message: err.Error(), Code: int(fail.CodeOf(err)), Hints: fail.Hints(err)}
		}
		w.Header().Set("Content-Type", "application/json")
		w.WriteHeader(status)
		_ = json.NewEncoder(w).Encode(v) // the caller is gone then
	}
}

func read(r *http.Request, v any) error {
	d := json.NewDecoder(io.LimitReader(r.Body, 1<<20))
	d.DisallowUnknownFields()
	if err := d.Decode(v); err != nil {
		return fail.New(fail.Usage, "request: %w", err)
	}
	return nil
}

func (l *Lab) status() Status {
	s := Status{State: l.State(), Notice: Notice, PID: os.Getpid(), Since: l.since.UTC(), Services: map[string][]ServiceStatus{},
		Faults: l.faults.List(), Requests: l.manta.Stats()}
	for name, list := range l.services {
		for _, svc := range list {
			s.Services[name] = append(s.Services[name], svc.status())
		}
	}
	return s
}

func (l *Lab) controlStop(*http.Request) (any, error) {
	l.stopOnce.Do(func() { close(l.stopped) })
	return struct{}{}, nil
}

func (l *Lab) controlAddFault(r *http.Request) (any, error) {
	b, err := io.ReadAll(io.LimitReader(r.Body, 1<<20))
	if err != nil {
		return nil, err
	}
	f, err := fault.Parse(b)
	if err != nil {
		return nil, fail.As(fail.Usage, err)
	}
	if err := l.knownTarget(f); err != nil {
		return nil, err
	}
	if f, err = l.faults.Add(f); err != nil {
		return nil, fail.As(fail.Usage, err)
	}
	return f, l.saveFaults()
}

// knownTarget refuses a fault that could never meet anything.
func (l *Lab) knownTarget(f fault.Fault) error {
	services := []string{"", mantad.Service, "imgapi", frontService}
	if !slices.Contains(services, f.Service) {
		return fail.New(fail.Usage, "fault: no service %q in this lab (%s)", f.Service, strings.Join(services[1:], ", "))
	}
	if f.Instance == "" || f.Service == mantad.Service && f.Instance == mantad.Service {
		return nil
	}
	_, err := l.instance(f.Instance)
	return err
}

func (l *Lab) controlClearFaults(*http.Request) (any, error) {
	n := l.faults.Clear()
	return map[string]int{"removed": n}, l.saveFaults()
}

func (l *Lab) controlRemoveFault(r *http.Request) (any, error) {
	id := r.PathValue("id")
	if !l.faults.Remove(id) {
		return nil, fail.New(fail.Usage, "fault %s: not in force", id)
	}
	return map[string]int{"removed": 1}, l.saveFaults()
}

func (l *Lab) instance(name string) (zone, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if in := l.state.Instance(name); in != nil {
		return zone{in}, nil
	}
	var names []string
	for _, in := range l.state.Instances {
		names = append(names, in.Name)
	}
	return zone{}, fail.New(fail.Usage, "instance %q: not in this lab (%s)", name, cmp.Or(strings.Join(names, ", "), "there is none"))
}

func (l *Lab) service(instance, name string) (*smfService, error) {
	for _, s := range l.services[instance] {
		if s.name == name || s.fmri == name {
			return s, nil
		}
	}
	return nil, fail.New(fail.Usage, "service %q: not in instance %s (imgapi, haproxy)", name, instance)
}

// controlService is an administrator's command to the restarter.
func (l *Lab) controlService(r *http.Request) (any, error) {
	z, err := l.instance(r.PathValue("name"))
	if err != nil {
		return nil, err
	}
	s, err := l.service(z.Name, cmp.Or(r.URL.Query().Get("service"), "imgapi"))
	if err != nil {
		return nil, err
	}
	temporary := r.URL.Query().Get("temporary") == "true"
	switch verb := r.URL.Query().Get("verb"); verb {
	case "enable":
		s.enable()
		err = l.remember(z, s.name, false, temporary)
	case "disable":
		s.disable()
		err = l.remember(z, s.name, true, temporary)
	case "restart", "refresh":
		s.restart()
	case "clear":
		if s.status().State == stateMaintenance {
			s.restart()
		}
	case "crash":
		err = s.crash()
	default:
		err = fail.New(fail.Usage, "service verb %q: not known", verb)
	}
	return s.status(), err
}

// remember keeps whether an administrator disabled a service over restarts of
// the lab.
func (l *Lab) remember(z zone, service string, disabled, temporary bool) error {
	if temporary {
		return nil
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	z.Disabled = slices.DeleteFunc(z.Disabled, func(s string) bool { return s == service })
	if disabled {
		z.Disabled = append(z.Disabled, service)
	}
	return l.state.save()
}

func (l *Lab) controlSeed(r *http.Request) (any, error) {
	z, err := l.instance(r.PathValue("name"))
	if err != nil {
		return nil, err
	}
	var req SeedRequest
	if err := read(r, &req); err != nil {
		return nil, err
	}
	return l.Seed(r.Context(), z.Name, req)
}

// Seed fills an instance with images. Its IMGAPI is stopped meanwhile, because it
// reads manifests at start only.
func (l *Lab) Seed(ctx context.Context, instance string, req SeedRequest) (seed.Summary, error) {
	z, err := l.instance(instance)
	if err != nil {
		return seed.Summary{}, err
	}
	conf, err := z.readConfig()
	if err != nil {
		return seed.Summary{}, err
	}
	var channels []string
	for _, c := range conf.Channels {
		channels = append(channels, fmt.Sprint(c["name"]))
	}
	cfg := seed.Config{DataDir: z.data(), Images: req.Images, SizeDist: req.SizeDist, Seed: req.Seed, Files: req.Files,
		MaxSize: req.MaxSize, Mode: conf.Mode, Channels: channels, Stor: req.Stor}
	if err := cfg.Check(); err != nil {
		return seed.Summary{}, fail.As(fail.Usage, err)
	}
	if cfg.Stor != seed.Local && !contains(conf.StorageTypes, "manta") {
		return seed.Summary{}, fail.New(fail.Refused, "instance %s: keeps image files on local disk only (storageTypes), none can be seeded in Manta", instance)
	}
	if conf.Manta != nil {
		put, end, err := l.mantaPut(conf.Manta)
		if err != nil {
			return seed.Summary{}, err
		}
		defer end()
		cfg.Put = put
	}
	svc, err := l.service(instance, "imgapi")
	if err != nil {
		return seed.Summary{}, err
	}
	if svc.status().State != stateDisabled {
		svc.disable()
		defer svc.enable()
	}
	return seed.Run(ctx, cfg)
}
