package torture

var applicationFaults = []*Fault{}
