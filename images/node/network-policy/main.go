// Command network-policy enforces NetworkPolicy on a node: kube-router's policy
// controller alone, without its router, its service proxy and their BGP and
// cloud libraries.
package main

import (
	"fmt"
	"os"
	"os/signal"
	"sync"
	"syscall"

	"github.com/cloudnativelabs/kube-router/v2/pkg/controllers/netpol"
	"github.com/cloudnativelabs/kube-router/v2/pkg/healthcheck"
	"github.com/cloudnativelabs/kube-router/v2/pkg/options"
	"github.com/cloudnativelabs/kube-router/v2/pkg/svcip"
	"github.com/spf13/pflag"
	"k8s.io/client-go/informers"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/clientcmd"
)

func main() {
	config := options.NewKubeRouterConfig()
	config.AddFlags(pflag.CommandLine)
	pflag.Parse()
	if err := run(config); err != nil {
		fmt.Fprintln(os.Stderr, "network-policy:", err)
		os.Exit(1)
	}
}

func run(config *options.KubeRouterConfig) error {
	// An empty kubeconfig means the pod's own service account.
	restConfig, err := clientcmd.BuildConfigFromFlags(config.Master, config.Kubeconfig)
	if err != nil {
		return fmt.Errorf("reading the client configuration: %w", err)
	}
	client, err := kubernetes.NewForConfig(restConfig)
	if err != nil {
		return fmt.Errorf("making a client: %w", err)
	}

	stop := make(chan struct{})
	var running sync.WaitGroup

	health, err := healthcheck.NewHealthController(config)
	if err != nil {
		return fmt.Errorf("making the health endpoint: %w", err)
	}
	heartbeats := make(chan *healthcheck.ControllerHeartbeat, 10)
	running.Add(1)
	go health.RunServer(stop, &running)

	factory := informers.NewSharedInformerFactory(client, 0)
	pods := factory.Core().V1().Pods().Informer()
	namespaces := factory.Core().V1().Namespaces().Informer()
	policies := factory.Networking().V1().NetworkPolicies().Informer()
	factory.Start(stop)
	for kind, synced := range factory.WaitForCacheSync(stop) {
		if !synced {
			return fmt.Errorf("reading all %v: the watch ended early", kind)
		}
	}
	health.SetAlive()
	running.Add(1)
	go health.RunCheck(heartbeats, stop, &running)

	ranges, err := svcip.NewValidator(svcip.Config{
		ExternalIPCIDRs:   config.ExternalIPCIDRs,
		LoadBalancerCIDRs: config.LoadBalancerCIDRs,
		ClusterIPCIDRs:    config.ClusterIPCIDRs,
		StrictValidation:  config.StrictExternalIPValidation,
		EnableIPv4:        config.EnableIPv4,
		EnableIPv6:        config.EnableIPv6,
	})
	if err != nil {
		return fmt.Errorf("reading the service ranges: %w", err)
	}
	tables, sets, err := netpol.NewIPTablesHandlers(config)
	if err != nil {
		return fmt.Errorf("finding iptables and ipset: %w", err)
	}
	var ipsetMutex sync.Mutex
	controller, err := netpol.NewNetworkPolicyController(client, config, pods, policies, namespaces,
		&ipsetMutex, nil, tables, sets, ranges)
	if err != nil {
		return fmt.Errorf("making the policy controller: %w", err)
	}
	if _, err := pods.AddEventHandler(controller.PodEventHandler); err != nil {
		return fmt.Errorf("watching pods: %w", err)
	}
	if _, err := namespaces.AddEventHandler(controller.NamespaceEventHandler); err != nil {
		return fmt.Errorf("watching namespaces: %w", err)
	}
	if _, err := policies.AddEventHandler(controller.NetworkPolicyEventHandler); err != nil {
		return fmt.Errorf("watching network policies: %w", err)
	}
	running.Add(1)
	go controller.Run(heartbeats, stop, &running)

	signals := make(chan os.Signal, 1)
	signal.Notify(signals, syscall.SIGINT, syscall.SIGTERM)
	<-signals
	close(stop)
	running.Wait()
	return nil
}
