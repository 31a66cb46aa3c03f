package torture

var networkFaults = []*Fault{}
