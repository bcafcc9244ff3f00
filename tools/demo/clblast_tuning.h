/* How CLBlast multiplies on OpenCL CPU devices: its database knows none of these runtimes, and what it takes instead is
 * several times slower than it need be. Only speed depends on this. */
#ifndef CLNORM_DEMO_CLBLAST_TUNING_H
#define CLNORM_DEMO_CLBLAST_TUNING_H

#include <clnorm/opencl.h>

/* Tells CLBlast, for this process. Other kinds of devices keep what CLBlast's database says. */
void clblast_tune(clnorm_device *device);

#endif
