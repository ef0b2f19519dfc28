// SPDX-License-Identifier: Apache-2.0

// Vcsim is a vCenter for tests: govmomi's simulator with Changed Block Tracking over real files, snapshots that freeze
// them, tasks that take their time, and a control interface (/ctl/...) for what tests want to happen. See README.md.
package main

import (
	"crypto/tls"
	"flag"
	"fmt"
	"log"
	"net/url"
	"os"
	"strings"

	"github.com/vmware/govmomi/simulator"
	"github.com/vmware/govmomi/vim25/types"
)

func main() {
	dir := flag.String("dir", "disks", "directory of disk images")
	listen := flag.String("l", "127.0.0.1:8989", "listen address")
	loginFile := flag.String("login-file", "", "file with the user:password that Login must give")
	cert := flag.String("tlscert", "", "certificate file")
	key := flag.String("tlskey", "", "key file")
	inventory := flag.String("inventory", "", "JSON file of VMs and datastores")
	grain := flag.Int64("grain", 65536, "granularity of change tracking, bytes")
	maxAreas := flag.Int("max-areas", 2000, "areas returned per QueryChangedDiskAreas call")
	nfcLimit := flag.Int("nfc-limit", 20, "open disks per host")
	idle := flag.Duration("idle", 0, "sessions end after this much idle time")
	keep := flag.Bool("keep", false, "keep the frozen disks of removed snapshots")
	hosts := flag.String("host-addresses", "", "comma-separated names for the hosts of the cluster")
	flag.Parse()

	login, err := os.ReadFile(*loginFile)
	if err != nil {
		log.Fatal(err)
	}
	user, password, ok := strings.Cut(strings.TrimSpace(string(login)), ":")
	if !ok {
		log.Fatalf("%s: not user:password", *loginFile)
	}
	pair, err := tls.LoadX509KeyPair(*cert, *key)
	if err != nil {
		log.Fatal(err)
	}
	wanted, err := readInventory(*inventory)
	if err != nil {
		log.Fatal(err)
	}

	m := simulator.VPX()
	m.Machine = 0
	m.Datastore = len(wanted.Datastores)
	if err := m.Create(); err != nil {
		log.Fatal(err)
	}
	m.Service.Listen = &url.URL{Host: *listen, User: url.UserPassword(user, password)}
	m.Service.TLS = &tls.Config{Certificates: []tls.Certificate{pair}}
	if *idle > 0 {
		m.Service.Context.Map.OptionManager().UpdateOptions(&types.UpdateOptions{ChangedValue: []types.BaseOptionValue{
			&types.OptionValue{Key: "config.vmacore.soap.sessionTimeout", Value: idle.String()}}})
	}
	s := newSim(m.Service, *dir, *grain, *maxAreas)
	s.keep = *keep
	s.nfcLimit, s.user, s.password, s.thumbprint = *nfcLimit, user, password, thumbprint(pair.Certificate[0])
	if err := s.build(wanted, *hosts); err != nil {
		log.Fatal(err)
	}
	s.install()
	server := m.Service.NewServer()
	server.Config.Handler = &front{sim: s, next: server.Config.Handler, control: s.controlMux()}
	fmt.Println("https://" + server.URL.Host + server.URL.Path)
	select {}
}
