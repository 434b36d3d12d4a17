// Command routes keeps the routes to other nodes' pods: flannel with the two
// backends that need no cloud (host-gw on one link, vxlan otherwise). Addresses
// come from the nodes' pod ranges; masquerading is the CNI plugins' work.
package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"sync"
	"syscall"

	"github.com/flannel-io/flannel/pkg/backend"
	_ "github.com/flannel-io/flannel/pkg/backend/hostgw"
	_ "github.com/flannel-io/flannel/pkg/backend/vxlan"
	"github.com/flannel-io/flannel/pkg/ipmatch"
	"github.com/flannel-io/flannel/pkg/subnet/kube"
)

var (
	config  = flag.String("config", "/etc/atoll/routes/config.json", "flannel's network configuration")
	address = flag.String("address", "", "this node's address, by which other nodes reach it")
)

func main() {
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	defer stop()
	if err := run(ctx); err != nil {
		fmt.Fprintln(os.Stderr, "routes:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context) error {
	subnets, err := kube.NewSubnetManager(ctx, "", "", "flannel.alpha.coreos.com", *config, false)
	if err != nil {
		return fmt.Errorf("watching nodes: %w", err)
	}
	network, err := subnets.GetNetworkConfig(ctx)
	if err != nil {
		return fmt.Errorf("reading %s: %w", *config, err)
	}
	stack, err := ipmatch.GetIPFamily(network.EnableIPv4, network.EnableIPv6)
	if err != nil {
		return err
	}
	uplink, err := ipmatch.LookupExtIface(*address, "", "", stack, ipmatch.PublicIPOpts{PublicIP: *address})
	if err != nil {
		return fmt.Errorf("finding the interface that carries %s: %w", *address, err)
	}
	chosen, err := backend.NewManager(ctx, subnets, uplink).GetBackend(network.BackendType)
	if err != nil {
		return fmt.Errorf("choosing the backend %q: %w", network.BackendType, err)
	}
	var running sync.WaitGroup
	leased, err := chosen.RegisterNetwork(ctx, &running, network)
	if err != nil {
		return fmt.Errorf("registering this node: %w", err)
	}
	running.Add(1)
	go func() {
		leased.Run(ctx)
		running.Done()
	}()
	if err := subnets.CompleteLease(ctx, leased.Lease(), &running); err != nil {
		return fmt.Errorf("keeping this node's lease: %w", err)
	}
	running.Wait()
	return nil
}
