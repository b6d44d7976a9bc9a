@echo off
cd /d "%~dp0..\.."
if "%CWM_PYTHON%"=="" set CWM_PYTHON=python
"%CWM_PYTHON%" -m cwm_jax debug --dap -
