// Every kernel.
#define OPD_ON_HOST
#include "../attention.cu"
#include "../divergence_rows.cu"
#include "../draw_rows.cu"
#include "../rms_norm.cu"
#include "../rotate_heads.cu"
#include "../rows.cu"
#include "../scans.cu"
#include "../score_rows.cu"
#include "../support_rows.cu"
#include "../token_rows.cu"
#include "../values.cu"
