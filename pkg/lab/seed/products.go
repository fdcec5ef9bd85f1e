package seed

import (
	"encoding/json"
	"fmt"
	"math/rand/v2"
)

// a product is a line of images as public image servers have them.
type product struct {
	name, os, typ, description, homepage string
	scheme                               func(*rand.Rand) string
	service                              bool // a core service's image
}

func products() []product {
	const docs = "https://docs.tritondatacenter.com/images"
	zone := func(name, description string, scheme func(*rand.Rand) string) product {
		return product{name: name, os: "smartos", typ: "zone-dataset", description: description, homepage: docs, scheme: scheme}
	}
	vm := func(name, os, description string, scheme func(*rand.Rand) string) product {
		return product{name: name, os: os, typ: "zvol", description: description, homepage: docs + "/hvm", scheme: scheme}
	}
	lx := func(name, description string) product {
		return product{name: name, os: "linux", typ: "lx-dataset", description: description, homepage: docs + "/lx", scheme: dated}
	}
	service := func(name string) product {
		p := zone(name, "Triton "+name+" core service", build)
		p.homepage, p.service = "", true
		return p
	}
	return []product{
		zone("base-64-lts", "A 64-bit SmartOS image with just essential packages installed. Ideal for users who are comfortable with setting up their own environment and tools.", quarterly),
		zone("base-64", "A 64-bit SmartOS image with just essential packages installed.", quarterly),
		zone("minimal-64-lts", "A 64-bit minimal SmartOS image (long term support). This image contains only the software required to boot.", quarterly),
		zone("minimal-64", "A 64-bit minimal SmartOS image.", quarterly),
		zone("pkgbuild", "A SmartOS image for building packages.", quarterly),
		vm("ubuntu-certified-22.04", "linux", "Ubuntu 22.04 LTS, certified image. 64-bit HVM for bhyve and KVM instances; \"cloud-init\" included.", dated),
		vm("ubuntu-certified-24.04", "linux", "Ubuntu 24.04 LTS, certified image.", dated),
		vm("debian-12", "linux", "Debian 12 (bookworm), 64-bit image.", dated),
		vm("debian-11", "linux", "Debian 11 (bullseye), 64-bit image.", dated),
		vm("rocky-9", "linux", "Rocky Linux 9, 64-bit image — für bhyve.", dated),
		vm("freebsd-14", "bsd", "FreeBSD 14 with ZFS root.", dated),
		vm("windows-server-2022", "windows", "Windows Server 2022 Standard, evaluation.", dated),
		lx("ubuntu-22.04", "Container-native Ubuntu 22.04 64-bit image. Built to run on bare metal containers."),
		lx("debian-12-lx", "Container-native Debian 12 64-bit image."),
		lx("alpine-3", "Container-native Alpine Linux 3 <small & fast>."),
		service("imgapi"), service("vmapi"), service("cloudapi"), service("manta-webapi"),
	}
}

func quarterly(d *rand.Rand) string {
	return fmt.Sprintf("%d.%d.%d", 14+d.IntN(11), 1+d.IntN(4), d.IntN(3))
}

func dated(d *rand.Rand) string {
	return fmt.Sprintf("%d%02d%02d", 2014+d.IntN(11), 1+d.IntN(12), 1+d.IntN(28))
}

func build(d *rand.Rand) string {
	day := dated(d)
	return fmt.Sprintf("release-%s-%sT%02d%02d%02dZ-g%07x", day, day, d.IntN(24), d.IntN(60), d.IntN(60), d.IntN(1<<28))
}

func (p product) version(d *rand.Rand) string { return p.scheme(d) }

// fill adds what belongs to the product's kind.
func (p product) fill(r *raw, d *rand.Rand) {
	platform := map[string]string{"7.0": fmt.Sprintf("%d%02d%02dT%02d%02d%02dZ", 2014+d.IntN(9), 1+d.IntN(12), 1+d.IntN(28), d.IntN(24), d.IntN(60), d.IntN(60))}
	r.Requirements = &requirements{MinPlatform: platform}
	switch {
	case p.service:
		r.TagList = []string{"smartdc_service=true"}
		r.Tags = json.RawMessage(`{"smartdc_service":true}`)
	case p.typ == "zvol":
		r.NIC, r.Disk, r.CPU, r.ImageSize = "virtio", "virtio", "host", 10240
		r.Requirements = &requirements{Networks: []map[string]string{{"name": "net0", "description": "public"}}, SSHKey: p.os != "windows"}
		if d.IntN(2) == 0 {
			r.Requirements.Brand, r.Requirements.Bootrom = "bhyve", "uefi"
		}
		p.tag(r, "os")
		r.Users = []map[string]any{{"name": "root"}}
		passwords := p.os == "windows"
		r.Passwords = &passwords
	case p.typ == "lx-dataset":
		r.Requirements.Brand = "lx"
		p.tag(r, "os")
		r.TagList = append(r.TagList, "kernel_version=4.3.0")
		r.Tags = json.RawMessage(fmt.Sprintf(`{"role":"os","group":%q,"kernel_version":"4.3.0"}`, p.name))
	default:
		p.tag(r, "os")
		r.Users = []map[string]any{{"name": "root"}, {"name": "admin"}}
		if d.IntN(3) == 0 {
			r.Requirements.MinRAM = 256 << d.IntN(4)
		}
	}
}

func (p product) tag(r *raw, role string) {
	r.TagList = []string{"role=" + role, "group=" + p.name}
	r.Tags = json.RawMessage(fmt.Sprintf(`{"role":%q,"group":%q}`, role, p.name))
}
