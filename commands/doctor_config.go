package commands

import (
	"context"
	"encoding/json"
	"errors"
	"io/fs"
	"os"

	"github.com/tritonops/tritonops/pkg/health"
)

// config looks at the instance's configuration file. Whether its content makes
// sense is for the imgapi commands to say.
func (d doctor) config(context.Context) health.Result {
	path := d.env.Path("data", "imgapi", "etc", "imgapi.config.json")
	b, err := os.ReadFile(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return health.NAf("%s does not exist: no image server lives under this root", path)
	case err != nil:
		return health.Faultf("%s: cannot be read", path).Saw("%v", err).
			Because("no imgapi command can run").Do("run as root in the instance's zone")
	case !json.Valid(b):
		return health.Faultf("%s: not JSON", path).
			Because("no imgapi command can run").Do("json --validate -f " + path)
	}
	return health.Okf("%s", path)
}
